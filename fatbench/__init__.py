"""fatbench: a benchmark of fast adversarial training."""

__version__ = "0.1.0"
