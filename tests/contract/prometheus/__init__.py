"""Counting held against a real Prometheus."""
