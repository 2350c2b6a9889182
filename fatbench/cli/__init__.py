"""The command line: parse, delegate, print. Nothing here imports torch before it is needed."""

import sys

from fatbench.cli.signals import Ended, end_process, handled, ignore_signals

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit; see `fatbench.cli.app.run_app` for the codes.

    Signals are handled from the first moment, before anything that takes time is imported.
    """
    try:
        with handled(end_process):
            from fatbench.cli.app import run_app

            try:
                run_app()
            finally:
                ignore_signals()
    except Ended as end:
        ignore_signals()
        sys.stderr.write("fatbench: interrupted\n")
        sys.exit(end.exit_code)
