"""Evaluation: each one returns which images survived, and leaves model and random generators as they were."""
