"""Tests of what helm makes of the charts."""
