"""`fatbench ARGUMENTS` in a process that notes what it passes, and is killed (SIGKILL) where a fuse is planted."""

import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.processes import fatbench

PLACES = (
    "training",  # a step has been taken, and not been counted yet
    "probing",  # the probe has been made, and not been noted
    "state half written",
    "state written, not in place",
    "state in place",
    "record half written",
    "record written, not in place",
    "record in place",
    "weights half written",
    "samples half written",
    "evaluating",  # before any batch of images
)
KINDS = {
    ".json.": "record",
    ".state.safetensors.": "state",
    ".model.safetensors.": "weights",
    ".last.safetensors.": "weights",
    ".samples.npz.": "samples",
}


class Fuse:
    """Notes every place that is passed, and kills the process at one of them."""

    def __init__(self, log: str, place: str, count: int) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._place, self._count = place, count
        self._passed: Counter[str] = Counter()

    def passes(self, place: str) -> bool:
        """Note that the process is at `place`, and return whether it is to die there."""
        self._passed[place] += 1
        os.write(self._log, f"{place}\n".encode())
        return place == self._place and self._passed[place] == self._count

    def burn(self, place: str) -> None:
        if self.passes(place):
            os.kill(os.getpid(), signal.SIGKILL)


def plant(fuse: Fuse) -> None:
    """Let the fuse know of every place that the process passes."""
    from fatbench.cli import progress
    from fatbench.io import atomic
    from fatbench.runner import train
    from fatbench.training import loop

    def before(owner: Any, name: str, place: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def burning(*args: Any, **options: Any) -> Any:
            fuse.burn(place)
            return function(*args, **options)

        setattr(owner, name, burning)

    def after(owner: Any, name: str, place: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def burning(*args: Any, **options: Any) -> Any:
            found = function(*args, **options)
            fuse.burn(place)
            return found

        setattr(owner, name, burning)

    before(loop.Training, "_count", "training")
    after(train, "_probe", "probing")
    before(progress.ProgressObserver, "evaluating", "evaluating")
    _plant_in_writing(fuse, atomic)


def _plant_in_writing(fuse: Fuse, atomic: Any) -> None:
    from fatbench.record.paths import IN_PROGRESS

    create, replace = tempfile.NamedTemporaryFile, Path.replace

    def kind_of(name: str) -> str:
        name = name.replace(IN_PROGRESS, "")
        return next((kind for mark, kind in KINDS.items() if mark in f"{name}."), "")

    def created(*args: Any, **options: Any) -> Any:
        file, kind = create(*args, **options), kind_of(options["prefix"])
        write = file.write

        def torn(content: bytes) -> int:
            if kind and fuse.passes(f"{kind} half written"):
                write(content[: len(content) // 2])
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            return int(write(content))

        file.write = torn
        return file

    def replaced(path: Path, target: Path) -> Path:
        kind = kind_of(path.name) if "linked" not in path.name else ""
        if kind:
            fuse.burn(f"{kind} written, not in place")
        found = replace(path, target)
        if kind:
            fuse.burn(f"{kind} in place")
        return found

    atomic.tempfile.NamedTemporaryFile = created
    Path.replace = replaced  # type: ignore[method-assign]


def perish(log: str, place: str, count: int, arguments: list[str]) -> None:
    """Be `fatbench ARGUMENTS`, and die at the passing `count` of `place`, one of PLACES; count 0: live."""
    plant(Fuse(log, place, count))
    fatbench(*arguments)
