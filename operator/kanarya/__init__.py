"""Kanarya: rolls new ML model versions out on evidence and takes them back in seconds."""
