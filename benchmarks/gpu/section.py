"""A section at work in its own process: what it may use, how it measures, where its rows go."""

import gc
import math
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.gpu.rows import Rows
from benchmarks.gpu.scale import Scale
from fatbench.environment import reset_peak_memory
from fatbench.errors import one_line
from fatbench.training.clock import synchronize

RESTART = 75  # exit code: something failed here, and a fresh process is to measure the rest
_BLOCKS = 5

Work = Callable[[], object]


class RestartError(Exception):
    """Something failed: a device is not to be trusted after an error, so a fresh process goes on."""


@dataclass(frozen=True)
class Section:
    """What the sections' functions are given."""

    rows: Rows
    scale: Scale
    output: Path  # records, profile and errors; the working folder is `output / "work"`
    until: float  # time.time() after which nothing new is begun
    cifar10: bool  # whether the working folder has cifar10.npz

    @property
    def device(self) -> torch.device:
        return torch.device(self.scale.device)

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def seconds_left(self) -> float:
        return self.until - time.time()

    def each(self, names: Iterable[str], measure: Callable[[str], None]) -> None:
        """Measure one name after the other while there is time; what is measured already is skipped.

        Raises:
            RestartError: one failed; its row says how, and errors.txt has the traceback.
        """
        for name in names:
            if name in self.rows.done():
                continue
            if self.seconds_left < 0:
                return
            gc.collect()
            reset_peak_memory(self.device)
            self.rows.append(name, begun=True)
            try:
                measure(name)
            except Exception as error:
                self.rows.append(name, error=one_line(f"{type(error).__name__}: {error}"))
                with (self.output / "errors.txt").open("a", encoding="utf-8") as file:
                    file.write(f"== {self.rows.path.stem}: {name}\n{traceback.format_exc()}\n")
                raise RestartError from error

    def milliseconds(self, elapsed: Callable[[int], float], seconds: float | None = None) -> tuple[float, float]:
        """Return the milliseconds of one of what `elapsed` repeats, the median of blocks, and their relative spread."""
        seconds = self.scale.block_seconds if seconds is None else seconds
        elapsed(6)  # the workers of an author's loop run up to four batches ahead
        times = max(math.ceil(seconds / (elapsed(3) / 3)), 2)
        blocks = sorted(1e3 * elapsed(times) / times for _ in range(_BLOCKS))
        return median(blocks), (blocks[-1] - blocks[0]) / median(blocks)

    def elapsed(self, work: Work, times: int) -> float:
        """Do the work so many times, wait for the device, and return the seconds that it took."""
        synchronize(self.device)
        started = time.perf_counter()
        for _ in range(times):
            work()
        synchronize(self.device)
        return time.perf_counter() - started


def rounded(**values: Any) -> dict[str, Any]:
    """Return the values with floats to five significant digits: no measurement here has more."""
    return {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in values.items()}
