"""The two engines: the library attacks the model itself, or first an accelerated surrogate of it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fatbench.evaluation.attacks import is_correct
from fatbench.evaluation.autoattack.adapter import Adapter
from fatbench.evaluation.autoattack.low_margin import lowest_margins
from fatbench.evaluation.constraints import check_attack
from fatbench.evaluation.microbatch import Logits
from fatbench.threat import Ball

_LOW_MARGIN = 0.2  # of the images that stand are attacked on the model too; they cost a few per cent of an evaluation


class Attacker(Protocol):
    """Attacks a chunk of images."""

    def breaks(self, attack: str, x: Tensor, y: Tensor) -> Tensor:
        """(B,) whether the attack finds a permitted change of each image that the model gets wrong."""


@dataclass(frozen=True)
class Exact:
    """The library's attacks on the model as it is."""

    model: Logits
    adapter: Adapter
    ball: Ball

    def breaks(self, attack: str, x: Tensor, y: Tensor) -> Tensor:
        """(B,) which images fall, as the library's own evaluation finds them."""
        return self.confirms(self.adapter.perturb(attack, x, y), x, y)

    def confirms(self, x_adv: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """(B,) whether the model gets each of the images x_adv wrong, all of which must be permitted changes of x.

        Raises:
            InvalidRunError: one that it gets wrong is not.
        """
        fallen = ~is_correct(self.model, x_adv, y)
        check_attack(x_adv[fallen], x[fallen], self.ball, "AutoAttack")
        return fallen


@dataclass(frozen=True)
class Fast:
    """The library's attacks on a surrogate; the model has the last word on every image that falls.

    An image that only the surrogate gets wrong, before the attack or by it, is attacked on the model itself. So are,
    with the gradient attacks that break most, those of the lowest margins: there the surrogate's rounding decides.
    """

    exact: Exact
    surrogate: Logits
    arithmetic: Callable[[], AbstractContextManager[None]]  # the surrogate's
    adapter: Adapter  # on the surrogate
    exact_batch: int  # images that the model itself is attacked on at a time

    def breaks(self, attack: str, x: Tensor, y: Tensor) -> Tensor:
        """(B,) which images fall, in the model's own eyes."""
        with self.arithmetic():
            x_adv = self.adapter.perturb(attack, x, y)
            claimed = self.surrogate(x_adv).argmax(1).ne(y) | x_adv.ne(x).flatten(1).any(1)
        fallen = torch.cat([self.exact.confirms(x_adv[part], x[part], y[part]) for part in self._parts(len(x))])
        doubtful = claimed & ~fallen
        if attack.startswith("apgd"):
            doubtful[self._low_margin(x, y, fallen | doubtful)] = True
        again = doubtful.nonzero().squeeze(1)
        for part in self._parts(len(again)):
            rows = again[part]
            fallen[rows] = self.exact.breaks(attack, x[rows], y[rows])
        return fallen

    def _low_margin(self, x: Tensor, y: Tensor, settled: Tensor) -> Tensor:
        """Which of the images that are not settled yet, (B,), stand by the least."""
        standing = (~settled).nonzero().squeeze(1)
        found = [
            lowest_margins(self.exact.model, x[rows], y[rows], self.exact.ball, _LOW_MARGIN)
            for rows in (standing[part] for part in self._parts(len(standing)))
        ]
        starts = range(0, len(standing), self.exact_batch)
        return torch.cat([standing[first + rows] for first, rows in zip(starts, found, strict=True)] or [standing])

    def _parts(self, images: int) -> Iterator[slice]:
        """So many images in batches that the model itself can take."""
        for first in range(0, images, self.exact_batch):
            yield slice(first, min(first + self.exact_batch, images))
