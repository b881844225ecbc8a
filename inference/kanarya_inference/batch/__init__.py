"""Scoring of whole files."""
