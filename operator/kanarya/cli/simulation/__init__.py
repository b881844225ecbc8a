"""Runs in virtual time: the decision's own code against candidates that are described, not deployed."""
