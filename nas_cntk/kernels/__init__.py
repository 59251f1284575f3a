"""Exact kernels of infinitely wide networks."""
