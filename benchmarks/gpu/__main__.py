"""python -m benchmarks.gpu: whatever ends it early is one line, with the exit codes of fatbench."""

import sys


def run() -> int:
    """Run the command and return its exit code."""
    try:
        from benchmarks.gpu.command import main  # imports torch, which takes seconds in which Ctrl-C may come
        from fatbench.errors import FatbenchError
    except KeyboardInterrupt:
        return 130
    try:
        return main()
    except KeyboardInterrupt:
        print(
            "\nbenchmarks.gpu: stopped; what is measured stands, and the same command measures the rest",
            file=sys.stderr,
        )
        return 130
    except FatbenchError as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return 6


if __name__ == "__main__":
    sys.exit(run())
