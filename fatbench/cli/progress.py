"""Progress of a run: a live line on a terminal, a line per epoch elsewhere."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from fatbench.cli.overall import Overall
from fatbench.evaluation.eval_result import EvalProgress
from fatbench.record import Record
from fatbench.record.parts import Probe, Score
from fatbench.runner.observer import Observer
from fatbench.training.loop import TrainStatus

_SPINNER, _BAR = 2, 13  # columns, with the space behind
_LONG = 15  # seconds that nobody waits without a word
_SHORTEST = 8  # of what is left of a title
Fact = tuple[int, str]  # its rank, and the text: where space is short the highest ranks go first, and rank 0 stays


class ProgressObserver(Observer):
    """Draws a run's progress on `console`; used as a context manager around it.

    Args:
        title: what the run is called.
        command: that makes the run again.
        overall: the runs of the command, of which there may be several.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        quiet: bool = False,
        command: str = "run",
        overall: Overall | None = None,
    ) -> None:
        self._command = command
        self._console = console
        self._title = title
        self._overall = overall if overall and len(overall.specs) > 1 else None
        self._live = console.is_terminal and not quiet
        self._lines = not console.is_terminal and not quiet
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            _Bar(bar_width=_BAR - 1),
            _Facts(),
            console=console,
            transient=True,
            refresh_per_second=4,
            disable=not self._live,
        )
        self._all: TaskID | None = None
        if self._overall:
            self._all = self._progress.add_task(self._overall.place, total=1.0, facts=self._left_for_all, bar=True)
        self._task: TaskID = self._progress.add_task(self._title, total=None, facts="", bar=True)
        self._last_probe = ""
        self._expected: float | None = None  # seconds of the evaluation that is under way, all in all
        self._due = self._end = 0.0  # when that is over by its forecast, and when this run is at the earliest

    def __enter__(self) -> Self:
        self._progress.start()
        if self._overall and self._lines:
            self._print(", ".join(filter(None, (f"{self._overall.place}: {self._title}", self._left_for_all()))))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, name: str) -> None:
        """A new stage has begun: the bar restarts."""
        self._expected, self._due = None, 0.0
        self._update(name, None, 0.0, [])
        if self._lines:
            self._print(f"{self._title}: {name}")

    def warning(self, text: str) -> None:
        """Something that a person should know, quiet or not."""
        self._print(f"fatbench: {text}")

    def reused(self, record: Record) -> None:
        """An identical finished run was found: say so."""
        again = f"`fatbench {self._command} ... --force` makes it again"
        self.warning(f"{self._title}: stored result of {record.created}; {again}")

    def already_trained(self, record: Record) -> None:
        """An identical run was found that was stopped after its training: say so."""
        again = "`fatbench run ... --force` trains it again"
        self.warning(f"{self._title}: already trained ({record.created}), scoring now; {again}")

    def training(self, status: TrainStatus, images_per_second: float) -> None:
        """Training is at `status`."""
        left = status.train_seconds * (1 - status.progress) / status.progress if status.progress > 0 else 0.0
        facts = [
            (1, f"epoch {status.epoch}"),
            (0, f"loss {status.loss:.3f}"),
            (2, f"lr {status.lr:.4f}"),
            (0, f"{images_per_second:,.0f} images/s"),
            (0, f"{_duration(left)} left"),
            *([(3, self._last_probe)] if self._last_probe else []),
        ]
        self._update("", 1.0, status.progress, facts, left)

    def probed(self, probe: Probe) -> None:
        """The model was looked at on validation images."""
        seen = "  ".join(f"{name} {score.accuracy:.1%}" for name, score in probe.scores.items())
        self._last_probe = seen
        if self._lines:
            loss = "-" if probe.loss is None else f"{probe.loss:.3f}"
            line = f"epoch {probe.epoch}  loss {loss}  lr {probe.lr:.4f}  {_duration(probe.train_seconds)}"
            self._print(f"{self._title}: {line}  validation: {seen}")

    def expecting(self, name: str, images: int, seconds: float, by: str) -> None:
        """The evaluation `name` will take so long: if that is long, say so before it begins."""
        self._expected, self._due = seconds, time.monotonic() + seconds
        if (self._live or self._lines) and seconds > _LONG:
            about = f"about {_duration(seconds, 0)} at the pace of {by}"
            self._print(f"{self._title}: {name} on {images:,} images: {about}")

    def evaluating(self, name: str, progress: EvalProgress) -> None:
        """The evaluation `name` is so far."""
        left = progress.seconds_left
        expected = self._expected
        facts = [
            (1, progress.part),
            *([] if left is None else [(0, f"{_duration(left)} left of it")]),
            *([] if expected is None else [(0 if left is None else 3, f"about {_duration(expected, 0)} in all")]),
            (2, f"{progress.done} of {progress.total} images settled"),
        ]
        at_least = max(left or 0.0, self._due - time.monotonic())
        self._update(f"evaluating {name}", float(progress.total), float(progress.done), facts, at_least)

    def scored(self, name: str, score: Score) -> None:
        """The evaluation `name` is complete."""
        if self._lines:
            took = _duration(score.seconds)
            self._print(f"{self._title}: {name} {score.accuracy:.1%} of {score.total} images  {took}")

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def _update(
        self, stage: str, total: float | None, completed: float, facts: Sequence[Fact], seconds_left: float = 0.0
    ) -> None:
        described = f"{self._title}: {stage}" if stage else self._title
        self._end = time.monotonic() + seconds_left
        title, bar, text = _fitted(described, facts, self._console.width, cell_len(self._left_for_all()))
        self._progress.update(self._task, description=title, total=total, completed=completed, facts=text, bar=bar)
        if self._overall and self._all is not None:
            self._progress.update(self._all, completed=self._overall.done, bar=bar)

    def _left_for_all(self) -> str:
        here = max(0.0, self._end - time.monotonic())
        left = self._overall.seconds_left(here) if self._overall else None
        return "" if left is None else f"about {_duration(left, 0)} left for all runs"


class _Facts(ProgressColumn):
    """Facts that are known, or found out whenever they are drawn."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True))

    def render(self, task: Task) -> RenderableType:
        facts = task.fields["facts"]
        return Text(facts() if callable(facts) else facts)


class _Bar(BarColumn):
    """A bar where there is room for one."""

    def render(self, task: Task) -> RenderableType:  # type: ignore[override]
        return super().render(task) if task.fields["bar"] else Text()


def _fitted(title: str, facts: Sequence[Fact], width: int, reserved: int = 0) -> tuple[str, bool, str]:
    """Return the title, whether there is a bar, and the facts that fit into one line of so many columns.

    First facts of a high rank go, then the bar, then the title's end. The line above has `reserved` columns of facts.
    """
    room = width - _SPINNER - cell_len(title) - 1
    for bar in (True, False):
        for least in range(max((rank for rank, _ in facts), default=0), -1, -1):
            text = "  ".join(text for rank, text in facts if rank <= least)
            if max(cell_len(text), reserved) <= room - _BAR * bar:
                return title, bar, text
    text = "  ".join(text for rank, text in facts if rank == 0)
    short = Text(title)
    short.truncate(max(_SHORTEST, width - _SPINNER - max(cell_len(text), reserved) - 1), overflow="ellipsis")
    return short.plain, False, text


def _duration(seconds: float, decimals: int = 1) -> str:
    if seconds < 60:
        return f"{seconds:.{decimals}f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
