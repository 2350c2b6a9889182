"""RunSpec: everything that decides what one run computes, and nothing else. No torch here."""

import hashlib
import json
import re
import reprlib
from fractions import Fraction
from functools import lru_cache
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from fatbench.config.parsing import parse_eps, parse_evaluation, parse_share, parse_target, radius, write_seconds
from fatbench.errors import UsageError

Norm = Literal["linf", "l2"]
Schedule = Literal["piecewise", "cyclic", "onecycle", "cosine", "constant"]
Precision = Literal["fp32", "bf16"]
Engine = Literal["reference", "fast"]
Toggle = Literal["channels-last", "shadow", "fold", "pad-stem", "fused-sgd", "graph", "cudnn-benchmark"]
Hyper = dict[str, bool | int | float | str]
EvalEngine = Literal["exact", "fast"]
OnOverfitting = Literal["continue", "stop", "restore"]
Select = Literal["last", "best"]
EXTERNAL = "external"  # the method of a model that was trained elsewhere

_LARGEST_SEED = 2**32 - 1
_MILESTONES = ("1/2", "3/4")
_FLAGS = {"on_overfitting": "--on-co", "train_seconds": "--time-budget", "evaluations": "--eval", "seed": "--seeds"}
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 200
_BOUNDS = {"gt": "is more than", "ge": "is at least", "lt": "is less than", "le": "is at most"}


Share = Annotated[str, BeforeValidator(parse_share)]


class RunSpec(BaseModel):
    """One training run and its evaluation, fully resolved: no field depends on the machine or on a default elsewhere.

    A field added later takes a default that means "as before": defaults stay out of `digest`, so old ids stand.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: str = Field(min_length=1)
    hyper: Hyper  # complete: every hyper-parameter of the method
    dataset: str = Field(min_length=1)  # a name, or the path of an .npz file or image folder
    model: str = Field(min_length=1)
    norm: Norm
    eps: Annotated[str, BeforeValidator(parse_eps)]
    seed: int = Field(ge=0, le=_LARGEST_SEED)

    epochs: Annotated[int, Field(ge=0, le=10**6)] | None = None  # the budget: this (0: trained elsewhere) ...
    train_seconds: Annotated[float, Field(gt=0)] | None = None  # ... or this
    batch_size: int = Field(gt=1)
    lr: float = Field(gt=0)  # peak
    schedule: Schedule
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    pad: int = Field(ge=0, le=64)  # random crop: pixels of zero padding on each side
    flip: bool
    limit_train: Annotated[int, Field(gt=0)] | None = None

    device: str = Field(pattern=r"^(cpu|mps|cuda(:\d+)?)$")
    precision: Precision
    threads: Annotated[int, Field(gt=0)] | None  # CPU threads; None leaves it to torch
    evaluations: dict[str, Annotated[int, Field(gt=0)] | None]  # name -> test images; None is all of them
    eval_batch_size: int = Field(default=250, gt=0)

    engine: Engine = "reference"
    without: tuple[Toggle, ...] = ()  # what the fast engine is to leave out
    compile: bool = False  # torch.compile in the fast engine
    milestones: tuple[Share, ...] = _MILESTONES  # of piecewise: where the rate drops to a tenth
    peak: Share | None = None  # of cyclic and onecycle: where the rate has it; None: where theirs usually is
    target: str | None = None  # stop once the validation probe reaches it: "pgd-10>=0.45"

    eval_engine: EvalEngine = "exact"
    eval_precision: dict[str, Annotated[float, Field(gt=0, lt=50)]] = Field(default_factory=dict)
    on_overfitting: OnOverfitting = "continue"
    select: Select = "last"
    select_on: str = "pgd-10"  # of the validation images

    label_smoothing: Annotated[float, Field(gt=0, lt=1)] | None = None  # probability of the true class
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None  # score an exponential average of the weights
    swa: Annotated[float, Field(ge=0, lt=1)] | None = None  # ... or their mean from this fraction of the budget on
    awp: Annotated[float, Field(gt=0, lt=1)] | None = None  # perturb weights by this fraction of their length

    checkpoint: str | None = None  # sha256 of weights that were trained elsewhere, only scored here
    normalize: tuple[tuple[float, ...], tuple[float, ...]] | None = None  # mean and std that they expect

    method_source: str | None = None  # sha256 of a user's own method file: edited, it is another run
    model_source: str | None = None  # likewise for path/to/file.py:factory

    @field_validator("evaluations")
    @classmethod
    def _known_evaluations(cls, value: dict[str, int | None]) -> dict[str, int | None]:
        for name in value:
            parse_evaluation(name)
        return value

    @field_validator("select_on")
    @classmethod
    def _selectable(cls, value: str) -> str:
        if parse_evaluation(value) == "autoattack":
            raise ValueError("a checkpoint is selected by what is looked at every epoch: clean, fgsm or pgd-STEPS")
        return value

    @field_validator("target")
    @classmethod
    def _canonical_target(cls, value: str | None) -> str | None:
        return None if value is None else str(parse_target(value))

    @field_validator("milestones")
    @classmethod
    def _one_after_another(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        fractions = [Fraction(one) for one in value]
        if not value or fractions != sorted(set(fractions)):
            raise ValueError(f"milestones come one after another, as 0.5,0.75, not {','.join(value)}")
        return value

    @field_validator("without")
    @classmethod
    def _in_order(cls, value: tuple[Toggle, ...]) -> tuple[Toggle, ...]:
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.epochs is None) == (self.train_seconds is None):
            raise ValueError("a run has one budget: --epochs or --time-budget")
        if (self.epochs == 0) != (self.method == EXTERNAL):
            raise ValueError(f"--epochs is at least 1, not {self.epochs}: only a model trained elsewhere has none")
        if self.ema is not None and self.swa is not None:
            raise ValueError("one average of the weights is scored: --ema or --swa")
        unknown = set(self.eval_precision) - set(self.evaluations)
        if unknown:
            raise ValueError(f"a precision for {min(unknown)}, which is not evaluated")
        if self.schedule != "piecewise" and self.milestones != _MILESTONES:
            raise ValueError(f"--milestones are where --schedule piecewise drops, and {self.schedule} has none")
        if self.schedule not in ("cyclic", "onecycle") and self.peak is not None:
            raise ValueError(f"--peak is for --schedule cyclic or onecycle: {self.schedule} has none")
        if self.engine == "reference" and (self.without or self.compile):
            raise ValueError("--without and --compile are for --engine fast: the reference engine has neither")
        if self.norm == "linf" and self.epsilon > 1:
            raise ValueError(
                f"eps {self.epsilon:g} is beyond the pixels' range [0, 1]; did you mean {self.epsilon:g}/255?"
            )
        return self

    @property
    def epsilon(self) -> float:
        """The radius of the threat model, for images in [0, 1]."""
        return radius(self.eps)

    @property
    def rate_shape(self) -> str:
        """How the learning rate moves, as people say it: "cyclic", "piecewise at 1/2, 3/4"."""
        if self.schedule == "piecewise":
            return f"piecewise at {', '.join(self.milestones)}"
        return self.schedule if self.peak is None else f"{self.schedule} with its peak at {self.peak}"

    @property
    def budget(self) -> str:
        """The budget as people write it: "15 epochs", "3m", "90s"."""
        if self.epochs == 0:
            return "trained elsewhere"
        if self.epochs is not None:
            return f"{self.epochs} epoch{'s' * (self.epochs != 1)}"
        assert self.train_seconds is not None
        return write_seconds(self.train_seconds)

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with anything that this spec decides."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def id(self) -> str:
        """A readable file name: digits-small-cnn-bs-trades-10ep-s0-1f2e3d4c."""
        weights = short_name((self.checkpoint or "")[:8])  # of a model that was trained elsewhere, in place of a budget
        budget = weights if self.epochs == 0 else f"{self.epochs}ep" if self.epochs else self.budget
        parts = [short_name(self.dataset), short_name(self.model), short_name(self.method), budget, f"s{self.seed}"]
        return "-".join([*parts, self.digest])


@lru_cache(maxsize=1024)
def short_name(name: str) -> str:
    """Return what a method, model or dataset is called in a table: a path's stem, safe in a file name."""
    last = PurePath(name).name.replace(".py:", "-").removesuffix(".npz")
    last = last.removesuffix(".py").replace("_", "-") if last.endswith(".py") else last  # a method's file
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", last)[:48].strip("-.") or "unnamed"


def build_spec(**fields: Any) -> RunSpec:
    """Return the validated spec.

    Raises:
        UsageError: one line that names the flag of the first field at fault and why.
    """
    try:
        return RunSpec(**fields)
    except ValidationError as error:
        raise UsageError(_problem_with_flag(error)) from None


def _problem_with_flag(error: ValidationError) -> str:
    """Return the first problem as whoever typed a command line would put it."""
    problem = error.errors()[0]
    field, context = str(problem["loc"][0]) if problem["loc"] else "", problem.get("ctx", {})
    bound = next((f"{words} {context[key]}" for key, words in _BOUNDS.items() if key in context), None)
    wanted = {"literal_error": f"is one of {context.get('expected')}", "finite_number": "is finite"}.get(
        problem["type"], bound
    )
    if not field or wanted is None:
        return first_problem(error)
    flag = _FLAGS.get(field, f"--{field.replace('_', '-')}")
    return f"{flag} {wanted}, not {_shown(problem['input'])}"


def _shown(value: object) -> str:
    """At most 60 characters of what a stranger gave: it may be huge, or nested without end."""
    return f"{_REPR.repr(value):.60}"


def first_problem(error: ValidationError) -> str:
    """Return one line for people out of a pydantic error: the field at fault and what is wrong with it."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return (
        message
        if problem["type"] == "value_error" or not where
        else f"{where}: {message} (got {_shown(problem['input'])})"
    )
