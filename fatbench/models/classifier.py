"""The model contract: images in [0, 1] in, float32 logits out; normalisation and precision live in here."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fatbench.config.spec import Precision

HALVES = (torch.float16, torch.bfloat16)


RETURN_LOGITS = "let its forward return the logits alone, or first in a tuple, or as 'logits' in a dict"
_KEYS = ("logits", "out")  # of dictionaries; the second is torchvision's


class NotLogitsError(TypeError):
    """What a network returned has no tensor that is known to be the logits."""


def logits_in(output: object) -> tuple[str, Tensor]:
    """Return where the logits are in what a network returned, in words ("": they are all of it), and the logits.

    They are a tensor, .logits of an object, 'logits' or 'out' of a dictionary, or the first element of a tuple or list.

    Raises:
        NotLogitsError: there is none of these.
    """
    if isinstance(output, Tensor):
        return "", output
    found: dict[str, object] = {".logits": getattr(output, "logits", None)}
    if isinstance(output, Mapping):
        found = {f"['{key}']": output.get(key) for key in _KEYS}
    elif isinstance(output, (tuple, list)):
        found["the first element"] = next(iter(output), None)
    for where, logits in found.items():
        if isinstance(logits, Tensor):
            return where, logits
    raise NotLogitsError(f"the network returned a {_kind(output)}, not one tensor of logits: {RETURN_LOGITS}")


def _kind(output: object) -> str:
    inside: list[str] = []
    if isinstance(output, Mapping):
        inside = [f"{key!s:.20}" for key in output]
    elif isinstance(output, (tuple, list)):
        inside = [type(one).__name__ for one in output]
    return " of ".join([type(output).__name__, *([", ".join(inside[:4])] if inside else [])])


class Classifier(nn.Module):
    """A network that maps (B, C, H, W) images in [0, 1] to (B, K) float32 logits.

    Mean and std are buffers, so a checkpoint cannot be evaluated with the wrong normalisation. Memory format is a
    property of the weights: `classifier.to(memory_format=torch.channels_last)` is enough, convolutions follow it.
    A float64 network given float64 images stays float64. Mean and std of three channels make three of a grey image.
    `notes` is what a reader should know about how the network is used.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, net: nn.Module, mean: Sequence[float], std: Sequence[float], precision: Precision = "fp32"
    ) -> None:
        super().__init__()
        self.net = net
        self.precision: Precision = precision
        self.notes: tuple[str, ...] = ()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def normalise(self, x: Tensor) -> Tensor:
        """(B, C, H, W) images as the network wants them; never in bfloat16, where pixels less their mean lose bits."""
        return (x - self.mean) / self.std

    def forward(self, x: Tensor) -> Tensor:
        normalised = self.normalise(x)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            _, logits = logits_in(self.net(normalised))
        return logits.float() if logits.dtype in HALVES else logits


@contextmanager
def full_precision(classifier: Classifier) -> Iterator[None]:
    """Run the classifier without autocast, as evaluations do, then as before."""
    precision, classifier.precision = classifier.precision, "fp32"
    try:
        yield
    finally:
        classifier.precision = precision
