"""Benchmarks: what an optimiser step costs, beside the authors' own loops, and whether that got worse."""
