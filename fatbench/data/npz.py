"""Own datasets as .npz files."""

from collections.abc import Collection
from pathlib import Path

from fatbench.data.arrays import KEYS, LARGEST, Arrays, check
from fatbench.errors import UsageError
from fatbench.io.npz import read_arrays


def read_npz(path: Path) -> Arrays:
    """Return x_train, y_train, x_test and y_test of the file, checked and in the one layout.

    Raises:
        UsageError: anything wrong with the file, naming the array at fault.
    """

    def wanted(there: Collection[str]) -> Collection[str]:
        missing = next((key for key in KEYS if key not in there), None)
        if missing is not None:
            has = ", ".join(sorted(there)[:8]) or "nothing"
            raise UsageError(f"{path} has no {missing}: it needs {', '.join(KEYS)}, and has {has:.200}")
        return KEYS

    return check(read_arrays(path, wanted, LARGEST), where=str(path))
