"""Progress of a run: a live line on a terminal, a line per epoch elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from fatbench.evaluation.eval_result import EvalProgress
from fatbench.record import Record
from fatbench.record.parts import Probe, Score
from fatbench.runner.observer import Observer
from fatbench.training.loop import TrainStatus

_ROOM_FOR_PROBE = 112  # columns


class ProgressObserver(Observer):
    """Draws a run's progress on `console`; used as a context manager around it."""

    def __init__(self, console: Console, title: str, quiet: bool = False, command: str = "run") -> None:
        self._command = command
        self._console = console
        self._title = title
        self._live = console.is_terminal and not quiet
        self._lines = not console.is_terminal and not quiet
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[facts]}", markup=False),
            console=console,
            transient=True,
            refresh_per_second=4,
            disable=not self._live,
        )
        self._task: TaskID = self._progress.add_task(self._title, total=None, facts="")
        self._last_probe = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, name: str) -> None:
        """A new stage has begun: the bar restarts."""
        self._update(name, None, 0.0, "")
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
        facts = f"epoch {status.epoch}  loss {status.loss:.3f}  lr {status.lr:.4f}  {images_per_second:,.0f} images/s"
        probe = f"  {self._last_probe}" if self._console.width > _ROOM_FOR_PROBE else ""
        self._update("", 1.0, status.progress, f"{facts}  {_duration(left)} left{probe}")

    def probed(self, probe: Probe) -> None:
        """The model was looked at on validation images."""
        seen = "  ".join(f"{name} {score.accuracy:.1%}" for name, score in probe.scores.items())
        self._last_probe = seen
        if self._lines:
            loss = "-" if probe.loss is None else f"{probe.loss:.3f}"
            line = f"epoch {probe.epoch}  loss {loss}  lr {probe.lr:.4f}  {_duration(probe.train_seconds)}"
            self._print(f"{self._title}: {line}  validation: {seen}")

    def evaluating(self, name: str, progress: EvalProgress) -> None:
        """The evaluation `name` is so far."""
        left = "" if progress.seconds_left is None else f"  {_duration(progress.seconds_left)} left of it"
        facts = f"{progress.part}{left}  {progress.done} of {progress.total} images settled"
        self._update(f"evaluating {name}", float(progress.total), float(progress.done), facts)

    def scored(self, name: str, score: Score) -> None:
        """The evaluation `name` is complete."""
        if self._lines:
            took = _duration(score.seconds)
            self._print(f"{self._title}: {name} {score.accuracy:.1%} of {score.total} images  {took}")

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def _update(self, stage: str, total: float | None, completed: float, facts: str) -> None:
        description = f"{self._title}: {stage}" if stage else self._title
        self._progress.update(self._task, description=description, total=total, completed=completed, facts=facts)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
