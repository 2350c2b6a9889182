"""What is attacked in these tests: a network fitted in no time, and one trained as users train theirs."""

from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from fatbench import runner
from fatbench.config.request import Request, RunOptions
from fatbench.config.resolve import resolve
from fatbench.data.loader import to_float
from fatbench.evaluation.autoattack import run_autoattack
from fatbench.evaluation.eval_mode import eval_mode, isolated_rng
from fatbench.evaluation.eval_result import EvalResult
from fatbench.models.classifier import Classifier
from fatbench.runner.setup import set_up
from fatbench.threat import Ball, Linf

EASY = Linf(0.2)


class Subject(NamedTuple):
    model: Classifier
    x: Tensor
    y: Tensor
    ball: Ball
    classes: int = 10

    def evaluate(self, batch_size: int = 8, **options: Any) -> EvalResult:
        options.setdefault("watch", lambda _: None)
        with eval_mode(self.model), isolated_rng(0, self.x.device):
            return run_autoattack(
                self.model,
                self.x,
                self.y,
                self.ball,
                num_classes=self.classes,
                seed=0,
                batch_size=batch_size,
                **options,
            )


def fitted(classes: int = 10, images: int = 10, ball: Ball = EASY) -> Subject:
    """A small network fitted to random images, so that some stand and some fall at a small eps."""
    torch.manual_seed(1)
    x, y = torch.rand(images, 1, 5, 5), torch.arange(images) % classes
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(54, classes))
    model = Classifier(net, [0.5], [0.3])
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return Subject(model, x, y, ball, classes)


def trained(folder: Path, images: int) -> Subject:
    """The small model trained on digits by a run, and test images."""
    flags = {"epochs": 4, "evaluate": ["clean"]}
    (spec,) = resolve(Request(["fgsm-rs"], settings=flags), device="cpu")
    record = runner.run(spec, RunOptions(output=folder, calibration_seconds=0.0))
    context = set_up(spec, data_dir=None, download=False)
    context.model.load_state_dict(safetensors.torch.load_file(folder / record.artefacts["weights"]))
    x, y = to_float(context.dataset.x_test), context.dataset.y_test
    return Subject(context.model, x[:images], y[:images], context.ball)
