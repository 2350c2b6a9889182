"""How far a command with several runs is, and how long the rest will take by what its own runs have taken."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from fatbench import methods, record
from fatbench.config.request import RunOptions
from fatbench.config.spec import RunSpec, short_name
from fatbench.errors import UsageError
from fatbench.io.safe_read import path_exists
from fatbench.record import PROTOCOL, Record
from fatbench.record.paths import has_checkpoint, record_path


class Overall:
    """The runs of one command, in order. A run that is stored already, or was begun earlier, times nothing."""

    def __init__(self, specs: Sequence[RunSpec], how: RunOptions) -> None:
        self.specs = specs
        self._stored = [not how.force and _is_stored(spec, how.output) for spec in specs]
        anew = how.force and not how.resume
        self._whole = [anew or not _is_begun(spec, how.output) for spec in specs]
        self._several_eps = len({spec.eps for spec in specs}) > 1
        self._seconds: dict[str, list[float]] = {}  # of whole runs, by what they have in common but for the seed
        self._current, self._started = 0, time.monotonic()

    @property
    def place(self) -> str:
        """Which run is under way: "run 3 of 8"."""
        return f"run {self._current + 1} of {len(self.specs)}"

    @property
    def fraction(self) -> str:
        """The same where space is short: "3/8"."""
        return f"{self._current + 1}/{len(self.specs)}"

    @property
    def done(self) -> float:
        """How many of the runs are over, as a fraction."""
        return self._current / len(self.specs)

    def title(self, spec: RunSpec) -> str:
        """Return what tells the run from the others of the command."""
        eps = f" eps {spec.eps}" if self._several_eps else ""
        return f"{short_name(spec.method)}{eps} seed {spec.seed}"

    def begin(self, spec: RunSpec) -> None:
        """The run begins."""
        self._current, self._started = self.specs.index(spec), time.monotonic()

    def finished(self, result: Record) -> None:
        """The run that is under way has come to a result; one that diverged says nothing of how long others take."""
        if self._whole[self._current] and result.status == "finished":
            seconds = time.monotonic() - self._started - result.timing.calibration  # which is the first run's alone
            self._seconds.setdefault(_kind(result.spec), []).append(seconds)

    def seconds_left(self, here: float = 0.0) -> float | None:
        """Return the seconds for this run and those to come; None before a run of this command has been timed.

        A method that has not been timed yet is taken to be as slow as the mean of the others.

        Args:
            here: seconds that this run will take at the least.
        """
        if not self._seconds:
            return None
        mean_of_all = fmean(seconds for several in self._seconds.values() for seconds in several)
        expected = [
            0.0 if stored else fmean(self._seconds.get(_kind(spec), [mean_of_all]))
            for spec, stored in zip(self.specs, self._stored, strict=True)
        ]
        spent = time.monotonic() - self._started
        return max(here, expected[self._current] - spent) + sum(expected[self._current + 1 :])


def _kind(spec: RunSpec) -> str:
    return spec.replace(seed=0).digest


def _is_stored(spec: RunSpec, output: Path) -> bool:
    """Whether the run's result stands there, as far as one can tell without its data."""
    path = record_path(output, spec.id)
    if not path_exists(path):
        return False
    try:
        known, method = record.load(path), methods.describe(spec.method)
    except UsageError:
        return False
    return known.is_result and known.protocol == PROTOCOL and known.method.sha256 == method.sha256


def _is_begun(spec: RunSpec, output: Path) -> bool:
    return has_checkpoint(output, spec.id) or path_exists(record_path(output, spec.id))
