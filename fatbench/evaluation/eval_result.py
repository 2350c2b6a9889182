"""The result of one evaluation, image by image, and how results on several batches of images become one."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from fatbench.record.parts import Fact, Finding, Score
from fatbench.record.samples import STANDING


class EvalProgress(NamedTuple):
    """How far an evaluation is."""

    done: int  # images that are settled
    total: int
    part: str = ""  # the attack that runs
    seconds_left: float | None = None  # of that part, as far as one can tell


Watch = Callable[[EvalProgress], None]


@dataclass(frozen=True)
class EvalResult:
    """The outcome of one evaluation of n images.

    `broken_by` holds, for each image, 0 where it was classified correctly to the end, else k where parts[k - 1] was the
    first to break it: "clean" (wrong without an attack), then the attacks in the order in which they ran.
    """

    parts: tuple[str, ...]
    broken_by: Tensor  # (n,) int8, on the CPU
    attack: dict[str, Fact] = field(default_factory=dict)  # what exactly was run
    seconds: float = 0.0
    part_seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def standing(self) -> Tensor:
        """(n,) whether each image was classified correctly to the end."""
        return self.broken_by == STANDING

    @property
    def score(self) -> Score:
        """The counts that the record keeps; survivors by part where several attacks ran."""
        several = len(self.parts) > 2
        attacked = self.parts[:1] == ("clean",) and len(self.parts) > 1
        return Score(
            correct=int(self.standing.sum()),
            total=len(self.broken_by),
            clean=int((self.broken_by != 1).sum()) if attacked else None,
            seconds=self.seconds,
            attack=self.attack,
            survivors=self._survivors() if several else {},
            part_seconds=self.part_seconds,
            warnings=self.warnings,
        )

    def _survivors(self) -> dict[str, int]:
        """Images still right after each attack."""
        lasting = torch.where(self.standing, len(self.parts) + 1, self.broken_by)
        return {part: int((lasting > k).sum()) for k, part in enumerate(self.parts, start=1) if part != "clean"}


def concatenated(eval_results: Sequence[EvalResult]) -> EvalResult:
    """Return one result on all the images of several results of the same evaluation, in their order."""
    first = eval_results[0]
    part_seconds: dict[str, float] = defaultdict(float)
    for eval_result in eval_results:
        for part, seconds in eval_result.part_seconds.items():
            part_seconds[part] += seconds
    return EvalResult(
        parts=first.parts,
        broken_by=torch.cat([eval_result.broken_by for eval_result in eval_results]),
        attack=first.attack,
        seconds=sum(eval_result.seconds for eval_result in eval_results),
        part_seconds=dict(part_seconds),
        warnings=list(dict.fromkeys(text for eval_result in eval_results for text in eval_result.warnings)),
        findings=list(
            {(one.code, one.evaluation): one for eval_result in eval_results for one in eval_result.findings}.values()
        ),
    )


def attack_result(part: str, clean: Tensor, standing: Tensor, attack: dict[str, Fact]) -> EvalResult:
    """Return the result of a single attack called `part`, given who was right before it and who after, (n,) each."""
    broken_by = torch.where(standing, STANDING, torch.where(clean, 2, 1)).to("cpu", torch.int8)
    return EvalResult(("clean", part), broken_by, attack)
