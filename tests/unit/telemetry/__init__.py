"""Tests of `kanarya.telemetry`."""
