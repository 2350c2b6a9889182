"""The rows that sections append to a file, one JSON object per line, and what they say is measured already."""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import fatbench

Row = dict[str, Any]


@cache
def source_version() -> str:
    """Eight hexadecimal digits of fatbench's own sources: rows of another version are measured anew."""
    digest, root = hashlib.sha256(), Path(fatbench.__file__).parent
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.toml")]):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:8]


class Rows:
    """One section's file of rows.

    A row has `name` (what was measured), `source` (the version of fatbench), `launch` (which call of the command wrote
    it) and either figures or `error`. A row with `begun` only marks what was going on when a process died.
    """

    def __init__(self, path: Path, launch: str) -> None:
        self.path, self._launch = path, launch

    def append(self, name: str, **values: Any) -> None:
        """Add a row; it is in the file when this returns."""
        row = {"name": name, "source": source_version(), "launch": self._launch, **values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def all(self) -> list[Row]:
        """Every line that is whole: the last one may have been cut off by a kill."""
        return list(_parsed(self.path))

    def measured(self) -> list[Row]:
        """The rows with figures, of this version, the newest of each name."""
        return _newest(row for row in self.all() if row["source"] == source_version())

    def of_any_version(self) -> list[Row]:
        """The rows with figures, the newest of each name."""
        return _newest(self.all())

    def done(self) -> set[str]:
        """Names that need no measurement: they have figures, or failed in this launch."""
        failed = {row["name"] for row in self.all() if "error" in row and row["launch"] == self._launch}
        return failed | {row["name"] for row in self.measured()}

    def in_progress(self) -> str | None:
        """The name that a process of this launch had begun when it died, or None."""
        last = next((row for row in reversed(self.all()) if row["launch"] == self._launch), None)
        return last["name"] if last and "begun" in last else None

    def failures(self) -> list[Row]:
        """The rows of this launch that say what failed."""
        return [row for row in self.all() if "error" in row and row["launch"] == self._launch]


def _newest(rows: Iterable[Row]) -> list[Row]:
    return list({row["name"]: row for row in rows if "error" not in row and "begun" not in row}.values())


def _parsed(path: Path) -> Iterable[Row]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue
