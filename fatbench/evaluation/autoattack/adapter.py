"""pyautoattack: one attack on one chunk of images, its checks, and its warnings caught."""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pyautoattack
import torch
from pyautoattack import checks
from torch import Tensor

from fatbench.evaluation.microbatch import Logits
from fatbench.threat import Ball, Linf

VERSION = f"pyautoattack {pyautoattack.__version__}"
_LOGGER = logging.getLogger("auto-attack")


TARGETS = 9  # wrong classes that the standard's targeted attacks try
_STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")


def parts_for(num_classes: int) -> tuple[tuple[str, ...], str]:
    """Return the attacks that make sense for so many classes, and what to call that selection.

    The targeted APGD uses the difference-of-logits ratio, which needs four classes; the untargeted one needs three.
    """
    if num_classes == 2:
        return ("apgd-ce", "fab-t", "square"), "custom(2 classes)"
    if num_classes == 3:
        return ("apgd-ce", "apgd-dlr", "fab-t", "square"), "custom(3 classes)"
    if num_classes <= TARGETS:
        return _STANDARD, f"standard({num_classes - 1} targets)"
    return _STANDARD, "standard"


class Adapter:
    """The attacks of the library's standard version on one model.

    The library seeds every chunk anew, so attacking chunk by chunk is what its own loop does.
    """

    def __init__(self, model: Logits, ball: Ball, num_classes: int, seed: int, device: torch.device) -> None:
        norm = "Linf" if isinstance(ball, Linf) else "L2"
        stock = pyautoattack.AutoAttack(model, norm=norm, eps=ball.eps, version="standard", seed=seed, device=device)
        stock.apgd_targeted.n_target_classes = stock.fab.n_target_classes = min(TARGETS, num_classes - 1)
        stock.fab.targeted = True
        self._stock = stock

    def perturb(self, attack: str, x: Tensor, y: Tensor) -> Tensor:
        """(B, C, H, W) images that the attack makes of x, contiguous; x itself where it finds nothing."""
        stock = self._stock
        if attack in ("apgd-ce", "apgd-dlr"):
            stock.apgd.loss = attack.removeprefix("apgd-")
        attacks = {"apgd-t": stock.apgd_targeted, "fab-t": stock.fab, "square": stock.square}
        x_adv: Tensor = attacks.get(attack, stock.apgd).perturb(x, y)
        return x_adv


def check_model(model: Logits, x: Tensor, y: Tensor) -> None:
    """Let the library look at the model on a chunk of images, and warn of what misleads its attacks.

    It looks for random outputs, for probabilities in the place of logits, and for a forward that optimises.
    """
    trace = sys.gettrace()
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))  # its count of optimising calls is never reset otherwise
    try:
        checks.check_randomized(model, x, y, bs=len(x), logger=_LOGGER)
        checks.check_range_output(model, x, logger=_LOGGER)
        checks.check_dynamic(model, x, logger=_LOGGER)
    finally:
        sys.settrace(trace)  # the library takes a debugger's or coverage tool's away


@contextmanager
def warnings_caught(known: list[str]) -> Iterator[list[str]]:
    """Yield a list to which every kind of warning of the library's is added once; logging is left as it was."""
    caught = list(known)

    class Catch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = " ".join(record.getMessage().split())
            if _kind(message) not in map(_kind, caught):
                caught.append(message)

    handler, before = Catch(logging.WARNING), (_LOGGER.propagate, _LOGGER.disabled, _LOGGER.level)
    _LOGGER.addHandler(handler)
    _LOGGER.propagate = _LOGGER.disabled = False
    _LOGGER.setLevel(logging.WARNING)
    try:
        yield caught
    finally:
        _LOGGER.removeHandler(handler)
        _LOGGER.propagate, _LOGGER.disabled = before[:2]
        _LOGGER.setLevel(before[2])


def _kind(message: str) -> str:
    """The message without its numbers: "there are 3 points with zero gradient!" comes chunk after chunk."""
    return re.sub(r"\d+", "#", message)
