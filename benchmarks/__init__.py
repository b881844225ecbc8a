"""Measurements of Kanarya on real clusters. What they found is in docs/benchmarks.md."""
