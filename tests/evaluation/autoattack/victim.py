"""A process that evaluates chunk by chunk, and is killed: python -m tests.evaluation.autoattack.victim FOLDER."""

import sys
import time
from pathlib import Path

import torch

from benchmarks.shortened import shortened
from fatbench.evaluation.sitting import Advance
from fatbench.threat import Linf
from tests.evaluation.autoattack.subjects import fitted

SHARE, BATCH_SIZE = 0.01, 3
LAST = 6  # chunks that it gets to


def main(folder: Path) -> None:
    heard = []

    def watch(advance: Advance) -> None:
        print(advance.part, flush=True)
        heard.append(advance)
        if len(heard) == LAST:
            time.sleep(600)

    torch.set_num_threads(1)
    subject = fitted(ball=Linf(0.15))
    subject.model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    with shortened(SHARE):
        subject.sit(BATCH_SIZE, watch=watch, state=folder / "state.npz")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
