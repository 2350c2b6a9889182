"""Fault injection: real runs are killed at chosen and at random moments, and must lose nothing by it."""
