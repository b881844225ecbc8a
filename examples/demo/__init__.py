"""`make demo`: one release that is promoted and one that is taken back, on a real cluster under a steady load."""
