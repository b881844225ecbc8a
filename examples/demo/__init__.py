"""`make demo`: a release that is promoted and a failing one that is taken back, on a real cluster under a steady load."""
