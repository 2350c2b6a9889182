"""A network tried on two images before anything runs: what it makes of them in eval and in train mode."""

import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

import torch
from torch.nn.parameter import is_lazy

from fatbench.errors import UsageError
from fatbench.models.classifier import HALVES, RETURN_LOGITS, Classifier, NotLogitsError, full_precision, logits_in
from fatbench.models.factory import ANY_FAILURE, failure, wrapped

Shape = tuple[int, int, int]  # (C, H, W) of images
Make = Callable[[Shape], tuple[Classifier, Collection[str]]]  # also the names of arguments that the factory took
_SIZES = (16, 32, 64, 96, 128, 224, 299)  # pixels, at which a network that fails is tried again
_COLOURED = "to have 3 channels, but got 1"  # says torch


def fitted(make: Make, name: str, num_classes: int, shape: Shape, *, trainable: bool = True) -> Classifier:
    """Return the classifier that `make` makes for images of this shape, if it keeps the model contract on them.

    Grey images become three equal channels for a network that takes no fewer. What a reader should know is in its
    `notes`.

    Raises:
        UsageError: it fails on such images, or its outputs are no logits; the line says what may help.
    """
    try:
        classifier, _ = make(shape)
        classifier.notes = _notes(classifier, name, num_classes, shape, trainable=trainable)
    except UsageError as error:
        if error.__cause__ is None:
            raise
        raise UsageError(
            f"{error}; {_remedy(make, name, num_classes, shape, trainable=trainable)}"
        ) from error.__cause__
    return classifier


def _notes(classifier: Classifier, name: str, num_classes: int, shape: Shape, *, trainable: bool) -> tuple[str, ...]:
    """What a reader should know of a classifier that keeps the contract; grey images may become coloured for that."""
    try:
        return _check_contract(classifier, name, num_classes, shape, trainable=trainable)
    except UsageError as error:
        if shape[0] != 1:
            raise
        mean, std = classifier.mean, classifier.std
        classifier.mean, classifier.std = mean.repeat(1, 3, 1, 1), std.repeat(1, 3, 1, 1)
        try:
            notes = _check_contract(classifier, name, num_classes, shape, trainable=trainable)
        except UsageError as coloured:
            raise coloured if _COLOURED in str(error) else error  # noqa: B904 - each has a cause of its own
        return (f"{name} takes three channels: it is given each grey image as three equal ones", *notes)


def _remedy(make: Make, name: str, num_classes: int, shape: Shape, *, trainable: bool) -> str:
    """What may help where the factory, or its network on such images, has failed."""
    own = name.partition(":")[0].endswith(".py")
    for side in _SIZES:
        larger = (shape[0], side, side)
        with suppress(UsageError):
            if side > max(shape[1:]):
                classifier, given = make(larger)
                _notes(classifier, name, num_classes, larger, trainable=trainable)
                how = f"put nn.Upsample({side}) before it" if own else wrapped(name, given, side)
                return f"it takes images of {side}x{side}: {how}"
    takes = "a factory may take num_classes, in_channels (in_chans) and image_size (img_size)"
    return takes if own else f"{takes}; if it needs more, {wrapped(name, ['num_classes'])}"


def _check_contract(
    classifier: Classifier, name: str, num_classes: int, shape: Shape, *, trainable: bool = True
) -> tuple[str, ...]:
    """Try the classifier on two black images, and return what a reader should know about its outputs.

    Modes, buffers and torch's generator stay as they are. Train mode is tried where the model is to be trained.

    Raises:
        UsageError: the logits are not (2, num_classes), floating point and finite, or a trainable model has no
            parameter that requires a gradient.
    """
    found = {"eval": _tried(classifier, name, num_classes, shape, training=False)}
    if trainable:
        found["train"] = _tried(classifier, name, num_classes, shape, training=True)
        if not any(parameter.requires_grad for parameter in classifier.parameters()):
            raise UsageError(f"{name} has nothing to train: none of its parameters requires a gradient")
    alike = len(set(found.values())) == 1
    notes = [f"{name}{'' if alike else f' in {mode} mode'}: {note}" for mode, note in found.items() if note]
    return tuple(dict.fromkeys(notes))


def _tried(classifier: Classifier, name: str, num_classes: int, shape: Shape, *, training: bool) -> str:
    """What to know of its outputs in this mode, or "" where they are float32 logits and nothing else."""
    what, images = f"{name}{' in train mode' * training}", f"2 images of {'x'.join(map(str, shape))}"
    try:
        with _leaving_no_trace(classifier, training=training):
            output = classifier.net(classifier.normalise(torch.zeros(2, *shape)))
    except ANY_FAILURE as error:
        line = _own_line(error, name)
        cause = None if training else error  # what works in eval mode is neither too small nor ill-made
        raise UsageError(f"{what} fails on {images}: {failure(error)}{f' (line {line})' if line else ''}") from cause
    try:
        part, logits = logits_in(output)
    except NotLogitsError as error:
        raise UsageError(f"{what}: {error}") from None
    kind, taken = str(logits.dtype).removeprefix("torch."), f"{part} of its {type(output).__name__}"
    if logits.shape != (2, num_classes) or not logits.is_floating_point():
        flat = logits.ndim > 2 and logits[0].numel() == num_classes
        remedy = "end it with nn.Flatten()" if flat else "give its last layer num_classes outputs"
        raise UsageError(
            f"{what} maps {images} to {kind} of shape {tuple(logits.shape)}{f' ({taken})' if part else ''}, "
            f"expected floating-point logits of shape (2, {num_classes}): {RETURN_LOGITS if part else remedy}"
        )
    if not training and not bool(torch.isfinite(logits).all()):
        raise UsageError(f"{name} maps {images}, all black, to logits that are not finite: check its initialisation")
    notes = [f"{taken} is taken as the logits"] if part else []
    notes += [f"its logits are {kind}, rounded before they become float32"] if logits.dtype in HALVES else []
    return "; ".join(notes)


def _own_line(error: BaseException, name: str) -> int | None:
    """The innermost line of the user's own file that the error has passed."""
    file = name.rpartition(":")[0]
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return lines[-1] if lines else None


@contextmanager
def _leaving_no_trace(classifier: Classifier, *, training: bool) -> Iterator[None]:
    # What a lazy module has yet to create has no value to keep.
    kept = [(buffer, buffer.clone()) for buffer in classifier.buffers() if not is_lazy(buffer)]
    modes = [(module, module.training) for module in classifier.modules()]
    with torch.random.fork_rng(devices=[]), full_precision(classifier), torch.no_grad():
        try:
            classifier.train(training)
            yield
        finally:
            for buffer, value in kept:
                buffer.copy_(value)
            for module, mode in modes:
                module.training = mode
