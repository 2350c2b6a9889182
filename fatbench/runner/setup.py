"""Setting a run up: data on the device, model built, everything from the seed."""

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from fatbench import data, methods, models
from fatbench.config.spec import RunSpec
from fatbench.data.dataset import Dataset
from fatbench.data.loader import Loader
from fatbench.environment import memory_budget
from fatbench.errors import UsageError
from fatbench.evaluation.eval_mode import seed_everything
from fatbench.evaluation.evaluator import Evaluator
from fatbench.interface import Context
from fatbench.methods import Method, check_compatible
from fatbench.models.classifier import Classifier
from fatbench.ops import smoothing_leaving
from fatbench.record.parts import DataInfo
from fatbench.threat import Ball, make_ball
from fatbench.training.averaging import make_average
from fatbench.training.clock import Clock
from fatbench.training.engine.capture import CannotCaptureError
from fatbench.training.engine.fast_model import FastModel
from fatbench.training.engine.stem import fastest_stem
from fatbench.training.engine.throttle import Throttle
from fatbench.training.loop import Training
from fatbench.training.schedule import Budget
from fatbench.training.weight_perturbation import perturbed


@dataclass(frozen=True, kw_only=True)
class EvalContext:
    """A model, and what it is to be scored on."""

    spec: RunSpec
    dataset: Dataset
    model: Classifier
    ball: Ball
    device: torch.device
    clock: Clock

    def evaluator(self, rows: Tensor) -> Evaluator:
        """The test images in `rows`, (n,) int64, for the model to be scored on."""
        there = rows.to(self.device)
        return self.evaluator_on(self.dataset.x_test[there], self.dataset.y_test[there])

    def evaluator_on(self, x: Tensor, y: Tensor) -> Evaluator:
        """Uint8 images (N, C, H, W) and their labels, for the model to be scored on."""
        spec = self.spec
        return Evaluator(x, y, self.dataset.num_classes, self.ball, spec.eval.batch_size, spec.eval.engine)


@dataclass(frozen=True, kw_only=True)
class RunContext(EvalContext):
    """A run that is set up."""

    method: Method
    loader: Loader
    memory_limit: int | None = None  # bytes for what a method remembers of single images; None: no limit

    def method_context(self) -> Context:
        """A fresh context for the method."""
        left = self.spec.training.label_smoothing  # to the true class; torch defines what is taken from it
        return Context(
            ball=self.ball,
            num_train=len(self.dataset.x_train),
            step=torch.zeros((), dtype=torch.int64, device=self.device),
            progress=torch.zeros((), device=self.device),
            smoothing=0.0 if left is None else smoothing_leaving(left, self.dataset.num_classes),
            memory_limit=self.memory_limit,
        )

    def training(self) -> Training:
        """The training that the spec asks for, not started; `prepare` warms its engine up."""
        train, fast = self.spec.training, self.spec.training.engine == "fast"
        steps = None if train.epochs is None else train.epochs * len(self.loader)
        model = self._fast_model() if fast else self.model
        return Training(
            model=model,
            method=self.method,
            loader=self.loader,
            ctx=self.method_context(),
            average=make_average(self.model, train),
            optimizer=self._optimizer(model),
            schedule=train.schedule,
            milestones=tuple(float(Fraction(one)) for one in train.milestones),
            peak=None if train.peak is None else float(Fraction(train.peak)),
            peak_lr=train.lr,
            budget=Budget(steps=steps, seconds=train.train_seconds),
            clock=self.clock,
            throttle=Throttle(self.device) if fast and self.device.type != "mps" else None,  # Metal has no events
        )

    def _fast_model(self) -> FastModel:
        train = self.spec.training
        stem = next((module for module in self.model.net.modules() if isinstance(module, nn.Conv2d)), None)
        channels = 0
        if stem is not None and self.device.type == "cuda" and "pad-stem" not in train.without:
            dtype = torch.bfloat16 if train.precision == "bf16" else torch.float32
            with suppress(RuntimeError, CannotCaptureError):  # the first convolution need not see the images
                shape = (
                    train.batch_size,
                    self.model.mean.shape[1],
                    *self.dataset.shape[1:],
                )  # grey ones may be coloured
                channels = fastest_stem(stem, shape, dtype, self.device)
        model = FastModel(self.model, train.without, compiled=train.compile, stem_channels=channels)
        if self.method.description.touches_data:
            model.disable("the method uses .data, by which weights change unseen", "shadow", "fold")
        return model

    def _optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        train = self.spec.training
        fused = train.engine == "fast" and "fused-sgd" not in train.without
        parameters = list(model.parameters())
        optimizer = torch.optim.SGD(
            parameters,
            lr=torch.tensor(train.lr, device=self.device) if fused else train.lr,  # a tensor moves inside a CUDA graph
            momentum=train.momentum,
            weight_decay=train.weight_decay,
            fused=fused or None,
        )
        if fused:  # it changes weights without torch's noticing, and copies of them would stay as they are
            optimizer.register_step_post_hook(lambda *_: increment_version(parameters))
        return optimizer


def set_up(spec: RunSpec, data_dir: Path | None, download: bool) -> RunContext:
    """Return the context of the run `spec`; split, weights, order and noise all follow from its seed.

    Raises:
        FatbenchError: method, data, model or device is not to be had as asked.
    """
    train, device = spec.training, torch.device(spec.device)
    clock = Clock(device)
    with clock.phase("setup"):
        method = methods.load(spec.method, **train.hyper)
        if train.method_source not in (None, method.description.sha256):
            raise UsageError(f"the source of {spec.method} is not what it was when the run was asked for")
        check_compatible(method.description, spec)
        if train.awp is not None:
            method = perturbed(method, train.awp)
        dataset = data.load(
            spec.dataset, seed=spec.seed, data_dir=data_dir, download=download, limit_train=train.limit_train
        ).to(device)
        seed_everything(spec.seed)  # before the model is built: its weights are the seed's too
        model = models.build(
            spec.model,
            num_classes=dataset.num_classes,
            shape=dataset.shape,
            mean=dataset.mean,
            std=dataset.std,
            precision=train.precision,
        ).to(device)
        model.train()
        if train.label_smoothing is not None and train.label_smoothing * dataset.num_classes <= 1:
            raise UsageError(
                f"--label-smoothing {train.label_smoothing:g} leaves the true class no more than the other "
                f"{dataset.num_classes - 1}: it is the probability of the true class"
            )
        loader = Loader(
            dataset.x_train,
            dataset.y_train,
            batch_size=train.batch_size,
            seed=spec.seed,
            pad=train.pad,
            flip=train.flip,
        )
    return RunContext(
        spec=spec,
        dataset=dataset,
        model=model,
        ball=make_ball(spec.norm, spec.epsilon),
        device=device,
        clock=clock,
        method=method,
        loader=loader,
        memory_limit=memory_budget(device),
    )


def data_info(dataset: Dataset) -> DataInfo:
    """Return what the record keeps about the data."""
    return DataInfo(
        name=dataset.name,
        train=len(dataset.x_train),
        validation=len(dataset.x_val),
        test=len(dataset.x_test),
        most_frequent=int(dataset.y_test.bincount().max()) if len(dataset.y_test) else 0,
        shape=dataset.shape,
        classes=dataset.num_classes,
        class_names=list(dataset.classes),
        notes=list(dataset.notes),
        subset=dataset.subset,
        sha256=dataset.sha256,
    )
