"""Statistics on counts: pure functions of a few numbers, each with its formula and where it comes from."""
