"""Measuring what a run costs: operations, speed, and the energy of the GPU."""
