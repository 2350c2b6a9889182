"""Conformance: what a training method must keep to, looked at in seconds; a file begun for a method to come."""
