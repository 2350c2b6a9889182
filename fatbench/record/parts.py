"""What a record is made of, part by part."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fatbench.config.spec import Hyper

OVERFITTING = "catastrophic-overfitting"  # a kind of event
LARGEST = 2**63 - 1  # what a table's 64-bit column holds
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Quantity = Annotated[float, Field(ge=0, le=1e30)]  # FLOPs outgrow 64 bits
Fact = bool | int | float | str


class Part(BaseModel):
    """Strict, closed and immutable: what it does not know or cannot be is refused."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        populate_by_name=True,
        defer_build=True,  # until a record is read: building all of them would be a third of `fatbench --help`
    )


class Score(Part):
    """How many of `total` images were classified correctly (under attack, in the worst case)."""

    correct: Count
    total: Annotated[int, Field(gt=0, le=LARGEST)]
    clean: Count | None = None  # of an attack: images that were right before it; None where they were not counted
    seconds: Seconds = 0.0
    attack: dict[str, Fact] = Field(default_factory=dict)  # what exactly was run: version, steps, seed, batch size
    survivors: dict[str, Count] = Field(default_factory=dict)  # AutoAttack: images still right after each of its parts
    part_seconds: dict[str, Seconds] = Field(default_factory=dict)  # AutoAttack: likewise; since schema 3
    warnings: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.correct > self.total:
            raise ValueError(f"{self.correct} correct out of {self.total}")
        if self.clean is not None and not self.correct <= self.clean <= self.total:
            raise ValueError(f"{self.clean} right before the attack, {self.correct} after it, out of {self.total}")
        if self.survivors and max(self.survivors.values()) > self.total:
            raise ValueError(f"more survivors than the {self.total} images attacked")
        return self

    @property
    def accuracy(self) -> float:
        return self.correct / self.total


class Budget(Part):
    """How long the run was to last, and what ended it."""

    epochs: int | None = None
    train_seconds: float | None = None  # neither: trained elsewhere
    stopped_by: Literal["epochs", "time", "target", "overfitting", "diverged", "interrupted", "failed"] | None = None

    @property
    def spent(self) -> bool:
        """Whether training came to an end that is worth scoring; its weights have been kept by then."""
        return self.stopped_by in ("epochs", "time", "target", "overfitting")


class TargetInfo(Part):
    """The validation accuracy that was to end the run, and when a probe first saw it."""

    target: str  # as "pgd-10>=0.45"
    reached: bool
    train_seconds: Seconds | None = None


class Timing(Part):
    """Seconds by phase, device-synchronised at the boundaries; phases do not overlap. `history` has epochs."""

    setup: Seconds = 0.0
    warmup: Seconds = 0.0
    train: Seconds = 0.0
    probe: Seconds = 0.0
    checkpoint: Seconds = 0.0
    calibration: Seconds = 0.0
    evaluation: Seconds = 0.0


class Passes(Part):
    """Samples sent through the network in the whole training, by direction."""

    forward: Count = 0
    input_backward: Count = 0
    weight_backward: Count = 0


class Throughput(Part):
    """Training images per second, block by block of training time (`fatbench.metering.throughput`)."""

    images_per_second: Quantity  # the median block's
    blocks: Count
    spread: Quantity | None  # between slow and fast blocks, as a fraction of the median; None: too few blocks
    noisy: bool | None  # do not trust this run's time; None: too few blocks to tell


class Compute(Part):
    """Floating-point operations of the whole training, a multiply-add being two, and how fast they were done."""

    flops: Quantity
    flops_per_second: Quantity  # over the training seconds
    peak_flops_per_second: Quantity | None = None  # matrix products here in this precision; None: not calibrated
    mfu: Quantity | None = None  # model FLOPs utilisation: the former over the latter


class EngineInfo(Part):
    """How the training steps were executed: what was asked for and what came of it."""

    name: str
    precision: str
    in_force: dict[str, bool] = Field(default_factory=dict)  # part of the engine -> whether it is on
    notes: dict[str, str] = Field(default_factory=dict)  # part of the engine -> why it is not
    compile_seconds: Seconds = 0.0
    capture_seconds: Seconds = 0.0


class Probe(Part):
    """A look at the model on validation images, off the clock."""

    epoch: Count
    step: Count
    train_seconds: Seconds
    lr: float
    loss: float | None  # mean training loss since the probe before; None when it is not finite
    scores: dict[str, Score]


class Event(Part):
    """Something that a reader of the result must know."""

    kind: str
    step: Count
    epoch: Count
    train_seconds: Seconds
    detail: str = ""


class Finding(Part):
    """A contract that model or data do not keep, so that scores may not mean what they seem to."""

    code: str  # kebab-case: "softmax-outputs"
    detail: str  # one line, with the remedy
    evaluation: str | None = None  # the one before or after which it was found; None: before any


class Masking(Part):
    """Whether robustness may be no more than gradients that lead attacks nowhere."""

    verdict: Literal["none", "suspect"]
    reasons: list[str] = Field(default_factory=list)
    shares: dict[str, float] = Field(default_factory=dict)  # what was looked at, as fractions of the images


class Diagnostics(Part):
    """What was looked at besides the scores, to know whether they can be relied on."""

    findings: list[Finding] = Field(default_factory=list)
    masking: Masking | None = None  # None: not looked at


class Selection(Part):
    """Which weights the scores are of; where they are not the last, the last ones' scores stay here beside them."""

    policy: Literal["last", "best", "restored"]
    on: str | None = None  # the evaluation of the validation images that chose them
    epoch: Count
    step: Count
    train_seconds: Seconds
    last_scores: dict[str, Score] = Field(default_factory=dict)


class MethodInfo(Part):
    """The method as it was run, its source included so that the result explains itself."""

    name: str
    hyper: Hyper
    sha256: str
    source: str


class DataInfo(Part):
    """The images that the run used."""

    name: str
    train: Count
    validation: Count
    test: Count
    most_frequent: Count = 0  # test images of the class that has most; 0 where they were not counted
    shape: tuple[int, int, int]
    classes: Count
    class_names: list[str] = Field(default_factory=list)  # by label, where they have any
    subset: bool
    sha256: str
    notes: list[str] = Field(default_factory=list)  # what was left out or changed on the way in


class Environment(Part):
    """The machine and software of the run; `device` is what decides whether times compare."""

    device: str
    cpu: str
    cpu_threads: Count
    platform: str
    python: str
    torch: str
    cuda: str | None
    cudnn: str | None
    driver: str | None
    tf32: bool
    fatbench: str
    commit: str | None
    dirty: bool | None
