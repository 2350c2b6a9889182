"""The model contract: images in [0, 1] in, float32 logits out; normalisation and precision live in here."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fatbench.config.spec import Precision

_HALVES = (torch.float16, torch.bfloat16)


class NotLogitsError(TypeError):
    """What a network returned is no tensor."""


class Classifier(nn.Module):
    """A network that maps (B, C, H, W) images in [0, 1] to (B, K) float32 logits.

    Mean and std are buffers, so a checkpoint cannot be evaluated with the wrong normalisation. Memory format is a
    property of the weights: `classifier.to(memory_format=torch.channels_last)` is enough, convolutions follow it.
    A float64 network given float64 images stays float64.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, net: nn.Module, mean: Sequence[float], std: Sequence[float], precision: Precision = "fp32"
    ) -> None:
        super().__init__()
        self.net = net
        self.precision: Precision = precision
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def normalise(self, x: Tensor) -> Tensor:
        """(B, C, H, W) images as the network wants them; never in bfloat16, where pixels less their mean lose bits."""
        return (x - self.mean) / self.std

    def forward(self, x: Tensor) -> Tensor:
        normalised = self.normalise(x)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.net(normalised)
        if not isinstance(logits, Tensor):
            raise NotLogitsError(f"the network returned a {type(logits).__name__}, not one tensor of logits")
        return logits.float() if logits.dtype in _HALVES else logits


@contextmanager
def full_precision(classifier: Classifier) -> Iterator[None]:
    """Run the classifier without autocast, as evaluations do, then as before."""
    precision, classifier.precision = classifier.precision, "fp32"
    try:
        yield
    finally:
        classifier.precision = precision
