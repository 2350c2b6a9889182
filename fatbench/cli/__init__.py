"""The command line: parse, delegate, print. Nothing here imports torch before it is needed."""

from fatbench.cli.signals import main

__all__ = ["main"]
