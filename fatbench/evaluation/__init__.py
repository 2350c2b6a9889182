"""Scoring: every evaluation returns which images survived, and leaves model and random generators as they were."""
