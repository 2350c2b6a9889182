"""How people write radii, fractions, durations, evaluations and targets, and what they mean by it."""

import math
import re
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

DEFAULT_SELECTION = "pgd-10"  # of the validation images
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_NORMALIZE = "--normalize takes MEAN,STD of pixels in [0, 1], as 0.1307,0.3081 or '0.49 0.48 0.45, 0.25 0.24 0.26'"
_EPS = re.compile(r"[0-9]{0,9}\.?[0-9]{1,25}(e-?[0-9])?(/[0-9]{1,9})?")
_SHARE = re.compile(r"[0-9]{0,6}\.?[0-9]{1,25}(/[0-9]{1,9})?")
_PGD = re.compile(r"pgd-([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,3}))?")


def parse_eps(text: object) -> str:
    """Return `text` ("8/255", 0.2, ...) as "k/255" where it is that, as a fraction or a float, else as written.

    Raises:
        ValueError: it is not a number in (0, 1e6].
    """
    return _canonical_eps(str(text).replace(" ", "")[:60])


@lru_cache(maxsize=256)  # ten thousand records have a few radii among them
def _canonical_eps(written: str) -> str:
    numerator, _, denominator = written.partition("/")
    if not _EPS.fullmatch(written) or (denominator and not int(denominator)):
        raise ValueError(f"eps is a number or a fraction such as 8/255, not '{written}'")
    value = Fraction(numerator) / int(denominator or 1)
    if not 0 < value <= 10**6:
        raise ValueError(f"eps is positive, not {written}")
    levels = round(value * 255)
    if 0 < levels < 255 and float(value) == levels / 255:
        return f"{levels}/255"
    return repr(float(value)) if Fraction(repr(float(value))) == value else str(value)


@lru_cache(maxsize=256)  # as above
def radius(eps: str) -> float:
    """Return the number that a radius written by `parse_eps` means."""
    return float(Fraction(eps))


def parse_fraction(text: object) -> str:
    """Return `text` ("0.75", 0.75, "100/110") as a fraction in its lowest terms, so that it has one spelling.

    Raises:
        ValueError: it is not a number in (0, 1).
    """
    written = str(text).replace(" ", "")[:60]
    numerator, _, denominator = written.partition("/")
    if _SHARE.fullmatch(written) and not (denominator and not int(denominator)):
        value = Fraction(numerator) / int(denominator or 1)
        if 0 < value < 1:
            return str(value)
    raise ValueError(f"a milestone or peak is a fraction of the training such as 0.75 or 100/110, not '{written}'")


def parse_seconds(text: str) -> float:
    """Return the seconds in "90s", "10m", "1h" or "1.5h"; a bare number counts seconds.

    Raises:
        ValueError: it is not such a duration, or not positive.
    """
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([smh]?)", text.strip())
    if not match or not float(match[1]):
        raise ValueError(f"a time budget looks like 90s, 10m or 1h, not '{text:.40}'")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def parse_budget(value: object) -> object:
    """Return the seconds of a budget written as text; what is no text stays as it is.

    Raises:
        ValueError: see `parse_seconds`.
    """
    try:
        return parse_seconds(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"--time-budget: {error}") from None


def write_seconds(seconds: float) -> str:
    """Return the duration as people write it: "3m", "90s"."""
    unit = next(u for u in "hms" if seconds % _SECONDS[u] == 0 or u == "s")
    return f"{seconds / _SECONDS[unit]:.12g}{unit}"


class PGD(BaseModel):
    """A projected-gradient attack named pgd-STEPS or pgd-STEPS-RESTARTS."""

    model_config = ConfigDict(frozen=True)
    steps: int
    restarts: int = 1


@lru_cache(maxsize=256)  # as above; what is refused is not kept
def parse_evaluation(name: str) -> PGD | Literal["clean", "fgsm", "autoattack"]:
    """Return what the evaluation `name` asks for.

    Raises:
        ValueError: there is no such evaluation.
    """
    if name == "clean":
        return "clean"
    if name == "fgsm":
        return "fgsm"
    if name == "autoattack":
        return "autoattack"
    match = _PGD.fullmatch(name)
    if not match:
        there_are = "there are clean, fgsm, pgd-STEPS, pgd-STEPS-RESTARTS and autoattack"
        raise ValueError(f"no evaluation '{name:.40}': {there_are}")
    return PGD(steps=int(match[1]), restarts=int(match[2] or 1))


def attack_strength(evaluation: str) -> tuple[int, int]:
    """Return a sort key of evaluations from weak to strong; names that are none go before the known attacks."""
    try:
        found = parse_evaluation(evaluation)
    except ValueError:
        return 1, 0
    if isinstance(found, PGD):
        return 3, found.steps * found.restarts
    return {"clean": 0, "fgsm": 2, "autoattack": 4}[found], 0


class EvaluationRequest(NamedTuple):
    """An evaluation, and on how many test images: so many, or as many as its interval needs to be so narrow."""

    name: str
    images: int | None = None  # with a precision: to begin with
    precision: float | None = None  # half-width of the 95% interval, in points


def parse_request(text: str) -> EvaluationRequest:
    """Return the request in "clean", "pgd-20:n=500" or "autoattack:n=200,precision=2.0".

    Raises:
        ValueError: it does not look like that.
    """
    name, colon, options = text.replace(" ", "").partition(":")
    parse_evaluation(name)
    images, precision = None, None
    for option in options.split(",") if colon else []:
        key, _, value = option.partition("=")
        if key == "n" and images is None and re.fullmatch(r"[1-9][0-9]{0,8}", value):
            images = int(value)
        elif key == "precision" and precision is None and re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,6})?", value):
            precision = float(value)
        else:
            raise ValueError(
                f"{name} takes n=IMAGES and precision=POINTS, as in {name}:n=200,precision=2, not '{option:.40}'"
            )
    if precision is not None and not 0 < precision < 50:
        raise ValueError(f"a precision is a half-width of the 95% interval between 0 and 50 points, not {precision:g}")
    return EvaluationRequest(name, images, precision)


def split_requests(text: str) -> list[str]:
    """Return the requests in "clean,autoattack:n=200,precision=2.0": an option belongs to the evaluation before it."""
    found: list[str] = []
    for part in text.split(","):
        if found and ":" in found[-1] and "=" in part and ":" not in part:
            found[-1] += f",{part.strip()}"
        else:
            found.append(part.strip())
    return found


def parse_selection(text: object) -> object:
    """Return the evaluation of validation images in "val", "val:pgd-20" or "pgd-20"; what is no text stays as it is.

    Raises:
        ValueError: it asks for test images, or for no evaluation.
    """
    if not isinstance(text, str):
        return text
    where, _, name = text.replace(" ", "").partition(":")
    if where == "test":
        raise ValueError("--select-on test: a model selected on test images has seen them; select on val")
    return parse_request((name or DEFAULT_SELECTION) if where == "val" else text.strip()).name


def split_commas(value: object) -> object:
    """Return the parts of a text, as of "0.5,0.75"; what is no text stays as it is."""
    return value.split(",") if isinstance(value, str) else value


def parse_normalization(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation out of "MEAN,STD", one number each or one per channel.

    Raises:
        ValueError: it does not look like that, or is not of pixels in [0, 1].
    """
    try:
        mean, std = (tuple(float(word) for word in part.split()) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{_NORMALIZE}, not '{text:.60}'") from None
    if not mean or len(mean) != len(std) or not all(map(math.isfinite, (*mean, *std))):
        raise ValueError(f"{_NORMALIZE}, not '{text:.60}'")
    if min(mean) < 0 or max(mean) > 1 or min(std) <= 0 or max(std) > 1:
        raise ValueError(f"{_NORMALIZE}: means in [0, 1], deviations in (0, 1]; divide those of 8-bit pixels by 255")
    return mean, std


class Target(NamedTuple):
    """A validation accuracy that ends a run once it is reached."""

    evaluation: str
    accuracy: float

    def __str__(self) -> str:
        return f"{self.evaluation}>={self.accuracy:g}"


def parse_target(text: str) -> Target:
    """Return the target in "pgd-10>=0.45" or "pgd-10>=45%".

    Raises:
        ValueError: it does not look like that.
    """
    name, _, bound = text.replace(" ", "").partition(">=")
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)(%?)", bound)
    accuracy = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 0 < accuracy <= 1:
        raise ValueError(f"a target looks like pgd-10>=0.45 or clean>=90%, not '{text:.40}'")
    if parse_evaluation(name) == "autoattack":
        raise ValueError("a target is looked at every epoch: clean or pgd-STEPS, not autoattack")
    return Target(name, accuracy)


class CheckpointInterval(NamedTuple):
    """Epochs or seconds between two checkpoints; neither: a checkpoint only where the run is cancelled."""

    epochs: int | None = None
    seconds: float | None = None


EVERY_EPOCH = CheckpointInterval(epochs=1)


def parse_interval(text: str) -> CheckpointInterval:
    """Return what "60s", "10m", "1h", "1e" (an epoch) or "none" stands for; a bare number counts seconds.

    Raises:
        ValueError: it is none of these.
    """
    text = text.strip()
    if text == "none":
        return CheckpointInterval()
    epochs = re.fullmatch(r"([1-9][0-9]{0,5})e", text)
    if epochs:
        return CheckpointInterval(epochs=int(epochs[1]))
    try:
        return CheckpointInterval(seconds=parse_seconds(text))
    except ValueError:
        raise ValueError(
            f"a checkpoint interval looks like 60s (or 60), 10m, 1h, 1e (every epoch) or none, not '{text:.40}'"
        ) from None
