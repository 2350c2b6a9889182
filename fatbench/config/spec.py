"""RunSpec: everything that decides what one run computes, and nothing else. No torch here."""

import hashlib
import json
import re
import reprlib
import unicodedata
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from fatbench.config import parsing
from fatbench.config.option import Option, Section
from fatbench.errors import UsageError

Norm = Literal["linf", "l2"]
Schedule = Literal["piecewise", "cyclic", "onecycle", "cosine", "constant"]
Precision = Literal["fp32", "bf16"]
Engine = Literal["reference", "fast"]
EnginePart = Literal["channels-last", "shadow", "fold", "pad-stem", "fused-sgd", "graph", "cudnn-benchmark"]
Hyper = dict[str, bool | int | float | str]
EvalEngine = Literal["exact", "fast"]
OnOverfitting = Literal["continue", "stop", "restore"]
Select = Literal["last", "best"]
EXTERNAL = "external"  # the method of a model that was trained elsewhere

_LARGEST_SEED = 2**32 - 1
_MILESTONES = ("1/2", "3/4")
_FLAGS = {"evaluations": "--eval", "seed": "--seeds"}  # of fields that are no plain options
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 200
_BOUNDS = {"gt": "must be more than", "ge": "must be at least", "lt": "must be less than", "le": "must be at most"}


Share = Annotated[str, BeforeValidator(parsing.parse_fraction)]
_Fraction = Annotated[float, Field(gt=0, lt=1)]
_Start = Annotated[float, Field(ge=0, lt=1)]
_Positive = Annotated[float, Field(gt=0)]
_LONGEST_NAME = 48  # bytes of a file's name that one of its parts may take
_Count = Annotated[int, Field(gt=0)]
_Epochs = Annotated[int, Field(ge=1, le=10**6)]

_DATASET = "Name, .npz file or image folder. \\[default: digits]"
_EPS = "Radius for pixels in [0, 1], as 8/255; `fatbench run` takes several by comma."
_MODEL = "Name, file.py:factory or package.module:factory, as torchvision.models:resnet18 or timm:resnet18."
_MILESTONES_HELP = "Where piecewise drops to a tenth, as 0.5,0.75 or 100/110,105/110 of the budget."
_PEAK = "Where cyclic and onecycle have their peak, as 0.4. \\[default: 0.5, 0.3]"
_SMOOTHING = "The true class's probability, as 0.6 (torch's label_smoothing: 0.444 for ten classes)."
_EMA = "Score an exponential average of the weights, as 0.9995."
_SWA = "Score the mean of epochs' weights from this fraction of the budget on."
_AWP = "Adversarial weight perturbation of this relative size, as 0.01."
_TARGET = "Stop once the validation probe reaches it, as 'pgd-10>=0.45'."
_SELECT = "Score the last or the best weights. \\[default: last]"
_SELECT_ON = "What is best: val (PGD-10 on validation images) or val:EVALUATION."
_ON_OVERFITTING = "On catastrophic overfitting: continue, stop, or restore the last healthy weights and stop."
_ENGINE = "reference or fast. \\[default: fast on a GPU, reference elsewhere]"
_PRECISION = "fp32 or bf16 in training; evaluation is fp32. \\[default: bf16 on a GPU]"
_WITHOUT = f"Leave out a part of the fast engine: {', '.join(get_args(EnginePart))}; repeatable."
_EVAL_ENGINE = "AutoAttack's: exact, or fast (every success confirmed exactly). \\[default: exact]"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrainSpec(_Part):
    """How weights are trained. A field added later takes a default that means "as before": see `RunSpec.digest`."""

    hyper: Hyper  # complete: every hyper-parameter of the method
    epochs: Annotated[_Epochs | None, Option("Budget: N x len(loader) optimiser steps.", Section.WHAT)] = None
    train_seconds: Annotated[
        _Positive | None,
        BeforeValidator(parsing.parse_budget),
        Option(
            "Budget: training seconds, as 90s, 10m or 1h.", Section.WHAT, ("--time-budget",), "time_budget", str, str
        ),
    ] = None
    batch_size: Annotated[int, Field(gt=1), Option("Images per batch.", Section.OPTIMISATION)]
    lr: Annotated[_Positive, Option("Peak learning rate.", Section.OPTIMISATION)]
    schedule: Annotated[Schedule, Option("piecewise, cyclic, onecycle, cosine or constant.", Section.OPTIMISATION)]
    milestones: Annotated[
        tuple[Share, ...],
        BeforeValidator(parsing.split_commas),
        Option(_MILESTONES_HELP, Section.OPTIMISATION, cli_type=str, toml_type=str | list[str | float]),
    ] = _MILESTONES
    peak: Annotated[Share | None, Option(_PEAK, Section.OPTIMISATION, cli_type=str, toml_type=str | float)] = None
    momentum: Annotated[float, Field(ge=0, lt=1), Option("SGD momentum.", Section.OPTIMISATION)]
    weight_decay: Annotated[float, Field(ge=0), Option("SGD weight decay.", Section.OPTIMISATION)]
    label_smoothing: Annotated[_Fraction | None, Option(_SMOOTHING, Section.OPTIMISATION, metavar="P")] = None
    ema: Annotated[_Fraction | None, Option(_EMA, Section.OPTIMISATION, metavar="T")] = None
    swa: Annotated[_Start | None, Option(_SWA, Section.OPTIMISATION, metavar="START")] = None
    awp: Annotated[_Fraction | None, Option(_AWP, Section.OPTIMISATION, metavar="GAMMA")] = None
    target: Annotated[str | None, Option(_TARGET, Section.WHAT)] = None
    on_overfitting: Annotated[OnOverfitting, Option(_ON_OVERFITTING, Section.OPTIMISATION, ("--on-co",))] = "continue"
    select: Annotated[Select, Option(_SELECT, Section.EVALUATION)] = "last"
    select_on: Annotated[str, BeforeValidator(parsing.parse_selection), Option(_SELECT_ON, Section.EVALUATION)] = (
        parsing.DEFAULT_SELECTION
    )
    pad: Annotated[int, Field(ge=0, le=64), Option("Random crop: pixels of padding; 0 is none.", Section.DATA)]
    flip: Annotated[bool, Option("Random horizontal flip.", Section.DATA, ("--flip/--no-flip",))]
    limit_train: Annotated[_Count | None, Option("Train on N images only; labelled subset.", Section.DATA)] = None
    engine: Annotated[Engine, Option(_ENGINE, Section.ENGINE)] = "reference"
    precision: Annotated[Precision, Option(_PRECISION, Section.ENGINE)]
    without: Annotated[
        tuple[EnginePart, ...], Option(_WITHOUT, Section.ENGINE, cli_type=list[str], toml_type=list[EnginePart])
    ] = ()
    compile: Annotated[
        bool, Option("torch.compile in the fast engine.", Section.ENGINE, ("--compile/--no-compile",))
    ] = False
    method_source: str | None = None  # sha256 of a user's own method file: edited, it is another run

    @field_validator("select_on")
    @classmethod
    def _selectable(cls, value: str) -> str:
        if parsing.parse_evaluation(value) == "autoattack":
            raise ValueError("a checkpoint is selected by what is looked at every epoch: clean, fgsm or pgd-STEPS")
        return value

    @field_validator("target")
    @classmethod
    def _canonical_target(cls, value: str | None) -> str | None:
        return None if value is None else str(parsing.parse_target(value))

    @field_validator("milestones")
    @classmethod
    def _one_after_another(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        fractions = [Fraction(one) for one in value]
        if not value or fractions != sorted(set(fractions)):
            raise ValueError(f"milestones come one after another, as 0.5,0.75, not {','.join(value)}")
        return value

    @field_validator("without")
    @classmethod
    def _in_order(cls, value: tuple[EnginePart, ...]) -> tuple[EnginePart, ...]:
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.epochs is None) == (self.train_seconds is None):
            raise ValueError("a run has one budget: --epochs or --time-budget")
        if self.ema is not None and self.swa is not None:
            raise ValueError("one average of the weights is scored: --ema or --swa")
        if self.schedule != "piecewise" and self.milestones != _MILESTONES:
            raise ValueError(f"--milestones are where --schedule piecewise drops, and {self.schedule} has none")
        if self.schedule not in ("cyclic", "onecycle") and self.peak is not None:
            raise ValueError(f"--peak is for --schedule cyclic or onecycle: {self.schedule} has none")
        if self.engine == "reference" and (self.without or self.compile):
            raise ValueError("--without and --compile are for --engine fast: the reference engine has neither")
        return self

    @property
    def budget(self) -> str:
        """The budget as people write it: "15 epochs", "3m", "90s"."""
        if self.train_seconds is not None:
            return parsing.write_seconds(self.train_seconds)
        return f"{self.epochs} epoch{'s' * (self.epochs != 1)}"

    @property
    def schedule_text(self) -> str:
        """The schedule as people write it: "cyclic", "piecewise at 1/2, 3/4"."""
        if self.schedule == "piecewise":
            return f"piecewise at {', '.join(self.milestones)}"
        return self.schedule if self.peak is None else f"{self.schedule} with its peak at {self.peak}"


class EvalSpec(_Part):
    """How weights are scored, wherever they come from."""

    evaluations: dict[str, Annotated[int, Field(gt=0)] | None]  # name -> test images; None is all of them
    precision: dict[str, Annotated[float, Field(gt=0, lt=50)]] = Field(default_factory=dict)  # half-width, in points
    batch_size: Annotated[_Count, Option("Images at a time in evaluation. \\[default: 250]", Section.EVALUATION)] = 250
    engine: Annotated[EvalEngine, Option(_EVAL_ENGINE, Section.EVALUATION)] = "exact"

    @field_validator("evaluations")
    @classmethod
    def _known_evaluations(cls, value: dict[str, int | None]) -> dict[str, int | None]:
        for name in value:
            parsing.parse_evaluation(name)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        unknown = set(self.precision) - set(self.evaluations)
        if unknown:
            raise ValueError(f"a precision for {min(unknown)}, which is not evaluated")
        return self


class RunSpec(_Part):
    """One run, fully resolved: no field depends on the machine or on a default elsewhere.

    Weights are trained as `train` says, or come from a checkpoint; then they are scored as `eval` says. All fields may
    be given flat, by the names of `flat`: so schemas before 4 had them, and so the command line has them.
    """

    method: str = Field(min_length=1)  # "external": trained elsewhere
    dataset: Annotated[str, Field(min_length=1), Option(_DATASET, Section.WHAT, ("--dataset", "-d"))]
    model: Annotated[str, Field(min_length=1), Option(_MODEL, Section.WHAT)]
    norm: Annotated[Norm, Option("linf or l2.", Section.WHAT)]
    eps: Annotated[
        str,
        BeforeValidator(parsing.parse_eps),
        Option(_EPS, Section.WHAT, cli_type=list[str], toml_type=str | float),
    ]
    seed: int = Field(ge=0, le=_LARGEST_SEED)
    device: str = Field(pattern=r"^(cpu|mps|cuda(:\d+)?)$")
    threads: Annotated[_Count | None, Option("CPU threads.", Section.ENGINE)]  # None leaves it to torch
    train: TrainSpec | None  # None: trained elsewhere
    eval: EvalSpec
    checkpoint: str | None = None  # sha256 of weights that were trained elsewhere
    checkpoint_key: str | None = None  # of the entry of that file, where it holds several
    normalize: tuple[tuple[float, ...], tuple[float, ...]] | None = None  # mean and std that they expect
    model_source: str | None = None  # sha256 of the file of path/to/file.py:factory

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, given: Any) -> Any:
        return nested(given) if isinstance(given, dict) and "eval" not in given else given

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.train is None) != (self.method == EXTERNAL):
            raise ValueError(f"'{EXTERNAL}' is the method of models that were trained elsewhere, and of no other")
        if self.norm == "linf" and self.epsilon > 1:
            raise ValueError(
                f"eps {self.epsilon:g} is beyond the pixels' range [0, 1]; did you mean {self.epsilon:g}/255?"
            )
        return self

    @property
    def training(self) -> TrainSpec:
        """How weights are trained; only where they are."""
        assert self.train is not None, "these weights were trained elsewhere"
        return self.train

    @property
    def epsilon(self) -> float:
        """The radius of the threat model, for images in [0, 1]."""
        return parsing.radius(self.eps)

    @property
    def budget(self) -> str:
        """The budget as people write it: "15 epochs", "3m", "90s"."""
        return "trained elsewhere" if self.train is None else self.train.budget

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with anything that this spec decides; defaults stay out of it."""
        content = flattened(self.model_dump(mode="json", exclude_defaults=True))
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def id(self) -> str:
        """A readable file name: digits-small-cnn-bs-trades-10ep-s0-1f2e3d4c."""
        if self.train is None:
            origin = short_name((self.checkpoint or "")[:8])
        else:
            origin = f"{self.train.epochs}ep" if self.train.epochs else self.train.budget
        parts = [short_name(self.dataset), short_name(self.model), short_name(self.method), origin, f"s{self.seed}"]
        return "-".join([*parts, self.digest])

    def flat(self) -> dict[str, Any]:
        """Return all fields by name, those of `train` among them, those of `eval` as eval_NAME; see FIELDS."""
        parts = {"train": vars(self.train) if self.train else {}, "eval": vars(self.eval)}
        return flattened(vars(self) | parts)

    def replace(self, **changes: Any) -> Self:
        """Return the spec with fields changed, by their flat names. Nothing is validated."""
        here: dict[str, dict[str, Any]] = {"": {}, "train": {}, "eval": {}}
        for name, value in changes.items():
            part, field = PLACES[name]
            here[part][field] = value
        parts = {part: getattr(self, part).model_copy(update=here[part]) for part in ("train", "eval") if here[part]}
        return self.model_copy(update=here[""] | parts)


def _places() -> dict[str, tuple[str, str]]:
    """Return where each field lies, by its flat name: the part of the spec, and its name there."""
    places = {name: ("", name) for name in RunSpec.model_fields if name not in ("train", "eval")}
    places |= {name: ("train", name) for name in TrainSpec.model_fields}
    return places | {_flat_name("eval", name): ("eval", name) for name in EvalSpec.model_fields}


def _flat_name(part: str, name: str) -> str:
    return f"eval_{name}" if part == "eval" and name != "evaluations" else name


PLACES = _places()  # of each field, by its flat name: the part of the spec, and its name there
_PARTS: dict[str, type[BaseModel]] = {"": RunSpec, "train": TrainSpec, "eval": EvalSpec}
FIELDS: dict[str, FieldInfo] = {
    name: _PARTS[part].model_fields[field] for name, (part, field) in PLACES.items()
}  # by flat name
OPTIONS: dict[str, Option] = {
    name: one for name, field in FIELDS.items() for one in field.metadata if isinstance(one, Option)
}  # likewise
EVAL_OPTIONS = tuple(name for name in OPTIONS if PLACES[name][0] != "train")  # of weights from elsewhere too


def nested(given: dict[str, Any]) -> dict[str, Any]:
    """Return flat fields in their parts; what no part knows stays outside, to be refused there."""
    parts: dict[str, dict[str, Any]] = {"": {}, "train": {}, "eval": {}}
    for name, value in given.items():
        part, field = PLACES.get(name, ("", name))
        parts[part][field] = value
    # Schemas before 4 said how weights from elsewhere were trained, which nobody knows.
    train = None if given.get("method") == EXTERNAL else parts["train"]
    return {"train": train, "eval": parts["eval"]} | parts[""]


def flattened(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a spec by their flat names, given its content by parts."""
    found = {name: value for name, value in nested.items() if name not in ("train", "eval")}
    found |= nested["train"] or {}
    return found | {_flat_name("eval", name): value for name, value in nested["eval"].items()}


@lru_cache(maxsize=1024)
def short_name(name: str) -> str:
    """Return what a method, model or dataset is called in tables: a path's stem, safe in a file name, in any script."""
    last = PurePath(name).name.replace(".py:", "-").removesuffix(".npz")
    last = last.removesuffix(".py").replace("_", "-") if last.endswith(".py") else last  # a method's file
    composed = unicodedata.normalize("NFC", last)  # file systems differ in how they write an accent
    safe = re.sub("\0+", "-", "".join(letter if _is_safe(letter) else "\0" for letter in composed))
    cut = safe.encode()[:_LONGEST_NAME].decode(errors="ignore")
    return cut.strip("-.") or "unnamed"


def _is_safe(letter: str) -> bool:
    """Letters with their marks, digits, symbols such as emoji: no separator, blank or invisible character."""
    return letter in "_.-" or unicodedata.category(letter)[0] in "LMN" or unicodedata.category(letter) == "So"


class SettingError(UsageError):
    """A value that cannot be right; `field` is the flat name of the field at fault."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


def build_spec(**fields: Any) -> RunSpec:
    """Return the validated spec.

    Raises:
        SettingError: one line that names the flag of the first field at fault and why.
    """
    try:
        return RunSpec(**fields)
    except ValidationError as error:
        raise _setting_error(error) from None


def _setting_error(error: ValidationError) -> SettingError:
    """Return the first problem as whoever typed a command line would put it."""
    problem = error.errors()[0]
    context = problem.get("ctx", {})
    bound = next((f"{words} {context[key]:.12g}" for key, words in _BOUNDS.items() if key in context), None)
    wanted = {"literal_error": f"must be one of {context.get('expected')}", "finite_number": "must be finite"}.get(
        problem["type"], bound
    )
    part, *rest = map(str, problem["loc"] or ("",))
    name = _flat_name(part, rest[0]) if part in ("train", "eval") and rest else part
    if name not in FIELDS or wanted is None:
        return SettingError(first_problem(error), name)
    return SettingError(f"{flag_of(name)} {wanted}, not {_shown(problem['input'])}", name)


def flag_of(name: str) -> str:
    """Return the flag of the field with this flat name."""
    flags = OPTIONS[name].flags if name in OPTIONS else ()
    return flags[0].partition("/")[0] if flags else _FLAGS.get(name, f"--{name.replace('_', '-')}")


def _shown(value: object) -> str:
    """At most 60 characters of an untrusted value: it may be huge, or nested without end."""
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
