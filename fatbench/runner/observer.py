"""Observer: called with what a run is doing."""

from fatbench.evaluation.eval_result import EvalProgress
from fatbench.record import Record
from fatbench.record.parts import Probe, Score
from fatbench.training.loop import TrainStatus


class Observer:
    """Called with what a run is doing; this one ignores it all, and subclasses override what they need."""

    def stage(self, name: str) -> None:
        """A new stage has begun."""

    def warning(self, text: str) -> None:
        """Something that a person should know before the result."""

    def reused(self, record: Record) -> None:
        """An identical finished run was found: there is nothing to do."""

    def already_trained(self, record: Record) -> None:
        """An identical run was found that was stopped after its training: it is scored to the end."""

    def training(self, status: TrainStatus, images_per_second: float) -> None:
        """Training is at `status`; called about once a second, on the clock."""

    def probed(self, probe: Probe) -> None:
        """The model was looked at on validation images."""

    def expecting(self, name: str, images: int, seconds: float, by: str) -> None:
        """The evaluation `name` will take about so many seconds, by the pace of the evaluation `by`."""

    def evaluating(self, name: str, progress: EvalProgress) -> None:
        """The evaluation `name` is so far."""

    def scored(self, name: str, score: Score) -> None:
        """The evaluation `name` is complete."""
