"""The trainer: it alone steps the optimiser, moves the learning rate and reads the clock."""
