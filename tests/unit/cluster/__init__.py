"""Tests of `tests.cluster`: its pure parts, without a cluster."""
