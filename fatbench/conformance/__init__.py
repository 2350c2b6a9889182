"""Conformance: checks of a training method's contract in seconds, and a template for a new method."""
