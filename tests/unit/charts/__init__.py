"""Tests of what the charts say about themselves: no helm needed."""
