"""Kubernetes behind one small port."""
