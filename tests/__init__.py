"""Kanarya's tests."""
