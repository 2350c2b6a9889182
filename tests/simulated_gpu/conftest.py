"""The command line, in this process."""

from tests.cli.conftest import fatbench

__all__ = ["fatbench"]
