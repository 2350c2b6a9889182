"""`make bench-against BASE=COMMIT`: `context-check` with another commit, measured here and now, for its baseline.

The sound comparison between two machines is none: so a pull request is compared with the commit that it started from,
on the machine that checks it. That commit's package is measured by this commit's benchmarks. Exit codes as of the
check; 5 if the other commit cannot be measured.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from benchmarks.check import NO_BASELINE, OK

ROOT = Path(__file__).parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-against", description=__doc__.splitlines()[0])
    parser.add_argument("base", help="the commit to compare with; what follows is the check's, as --method NAME")
    options, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        tree, baseline = Path(folder) / "tree", Path(folder) / "baseline.json"
        if not (_unpack(options.base, tree) and _check(tree, "--update", "--baseline", baseline, *more) == OK):
            print(f"bench-against: no baseline: {options.base} cannot be measured", file=sys.stderr)
            return NO_BASELINE
        return _check(ROOT, "--baseline", baseline, *more)


def _unpack(commit: str, tree: Path) -> bool:
    """Put the files of `commit` into `tree`, with the benchmarks of today; return whether there is such a commit."""
    done = subprocess.run(["git", "-C", str(ROOT), "archive", "--format=tar", commit], stdout=subprocess.PIPE)
    if done.returncode:
        return False
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(tree, filter="data")
    shutil.rmtree(tree / "benchmarks", ignore_errors=True)
    shutil.copytree(ROOT / "benchmarks", tree / "benchmarks")
    return True


def _check(tree: Path, *arguments: object) -> int:
    """Run the check on the package in `tree`, which `-m` finds before an installed one, and return its exit code."""
    command = [sys.executable, "-m", "benchmarks.check", *map(str, arguments)]
    return subprocess.run(command, cwd=tree).returncode


if __name__ == "__main__":
    sys.exit(main())
