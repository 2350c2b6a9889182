"""A process that evaluates chunk by chunk, and is killed."""

import os
import signal
from pathlib import Path

import torch

from benchmarks.shortened import shortened
from fatbench.evaluation.eval_result import EvalProgress
from fatbench.threat import Linf
from tests.evaluation.autoattack.subjects import fitted

SHARE, BATCH_SIZE = 0.01, 3
LAST = 6  # chunks that it gets to


def perish(folder: Path) -> None:
    """Evaluate the weights in `folder`, print each chunk, and die in the last."""
    heard = []

    def watch(progress: EvalProgress) -> None:
        print(progress.part, flush=True)
        heard.append(progress)
        if len(heard) == LAST:
            os.kill(os.getpid(), signal.SIGKILL)

    subject = fitted(ball=Linf(0.15))
    subject.model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    with shortened(SHARE):
        subject.evaluate(BATCH_SIZE, watch=watch, state=folder / "state.npz")
