"""Run every method three times on digits, two methods at a time, a thread each; then README's table. `make results`."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from fatbench import methods
from scripts import orderings, readme

_SETTINGS = ["--seeds", "0,1,2", "--epochs", "15", "--force", "--quiet", "--calibration", "0"]
_AT_A_TIME = 2  # on as many cores: a third process would slow the other two down, and times are part of the result


def main() -> int:
    """Run all, and return the worst of their exit codes; the table is written if all went well."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        code = max(pool.map(_run, methods.built_in()))
    if not code:
        readme.main()
        orderings.main()
    return code


def _run(method: str) -> int:
    command = [sys.executable, "-m", "fatbench", "run", "--method", method, *_SETTINGS]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - of constants
    print(f"{method}: {'done' if not done.returncode else done.stderr.strip()}", flush=True)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
