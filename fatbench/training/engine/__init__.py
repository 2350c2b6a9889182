"""The fast engine: the same training as the plain loop, near the hardware's limit."""
