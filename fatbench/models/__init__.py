"""The catalogue of models, and the way to bring one's own. Listing needs no torch; `build` imports the one file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from fatbench.config.spec import Precision
from fatbench.errors import UsageError

if TYPE_CHECKING:
    from fatbench.models.classifier import Classifier

LARGEST = 2**37  # bytes of a checkpoint: no image classifier comes near

_FACTORIES = {
    "small-cnn": "fatbench.models.small_cnn:small_cnn",
    "resnet18": "fatbench.models.resnet:resnet18",
    "preact-resnet18": "fatbench.models.preact_resnet:preact_resnet18",
    "resnet50": "fatbench.models.resnet:resnet50",
    "wrn-28-10": "fatbench.models.wide_resnet:wrn_28_10",
    "wrn-34-10": "fatbench.models.wide_resnet:wrn_34_10",
}
_DESCRIPTIONS = {
    "small-cnn": "3 or 4 convolutions for digits and MNIST; 19 k parameters at 8x8, seconds per run on a CPU",
    "resnet18": "ResNet-18 for 32x32 images, post-activation; 11.2 M parameters, the field's usual choice",
    "preact-resnet18": "ResNet-18 for 32x32 images, pre-activation, as in Fast AT; 11.2 M parameters",
    "resnet50": "ResNet-50 with bottlenecks, for 64x64 images such as tiny-imagenet; 23.5 M parameters",
    "wrn-28-10": "WideResNet-28-10; 36.5 M parameters, 9 times the work of resnet18",
    "wrn-34-10": "WideResNet-34-10, as in TRADES; 46.2 M parameters, 12 times the work of resnet18",
}


def names() -> list[str]:
    """Return the registered models' names, small to large."""
    return list(_FACTORIES)


def describe(name: str) -> str:
    """Return one line about the registered model `name`.

    Raises:
        UsageError: there is no such model; the line says which exist.
    """
    if name not in _DESCRIPTIONS:
        own = "package.module:factory, or path/to/file.py:factory"
        raise UsageError(f"no model '{name}': there are {', '.join(names())}, or {own}")
    return _DESCRIPTIONS[name]


def build(
    name: str,
    *,
    num_classes: int,
    shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    precision: Precision = "fp32",
    trainable: bool = True,
) -> Classifier:
    """Return a freshly initialised model on the CPU; its weights depend on torch's global seed alone.

    Args:
        name: a registered name, "package.module:factory" or "path/to/file.py:factory". The factory is called with
            those of num_classes, in_channels (in_chans) and image_size (img_size; an int, or (H, W) if they differ)
            that it accepts, and without pretrained weights. "package:NAME" may also be a name that the package's
            create_model knows, as timm's.
        num_classes, shape: K, the width of the logits, and (C, H, W) of the images.
        mean, std: of the training images in [0, 1], per channel.
        precision: "bf16" runs the network under autocast; the logits are float32 all the same.
        trainable: refuse a model that has nothing to train.

    Raises:
        UsageError: no such model or factory, or what it returns does not keep the model contract.
    """
    from fatbench.models.classifier import Classifier
    from fatbench.models.factory import call_factory, find_factory
    from fatbench.models.trial import fitted

    factory = find_factory(_locate(name))

    def make(shape: tuple[int, int, int]) -> tuple[Classifier, Collection[str]]:
        net, given = call_factory(factory, name, num_classes, shape)
        # A factory may have chosen a device by itself; the trial and the caller expect the CPU.
        return Classifier(net, mean, std, precision).cpu(), given

    return fitted(make, name, num_classes, shape, trainable=trainable)


def _locate(name: str) -> str:
    if name.endswith(".py"):
        raise UsageError(f"{name} names no factory: write {name}:factory")
    if ":" not in name:
        describe(name)  # raises for a name that is not registered
    return _FACTORIES.get(name, name)
