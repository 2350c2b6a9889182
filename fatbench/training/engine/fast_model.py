"""The model as the fast engine computes it: the same function of the same parameters, in less time."""

import torch
from torch import Tensor, nn

from fatbench.models.classifier import Classifier
from fatbench.ops import weights_constant
from fatbench.spec import Toggle
from fatbench.training.engine.frozen import CannotFreezeError, Frozen
from fatbench.training.engine.live import Live


class FastModel(nn.Module):
    """Images in [0, 1] to float32 logits: what the classifier gives, up to rounding, and with its parameters.

    The network runs in channels-last format. In eval mode, while nobody wants gradients of weights (an attack), copies
    of the weights are used into which batch norm is folded; otherwise the weights themselves, in bf16 by their shadows.
    What is stale is known from torch's version counters, so a method may change weights too; whatever changes weights
    unseen by them, as a fused optimiser and a replayed CUDA graph do, is to say so by `increment_version`.
    """

    def __init__(
        self,
        classifier: Classifier,
        without: tuple[Toggle, ...] = (),
        *,
        compiled: bool = False,
        stem_channels: int = 0,
    ) -> None:
        """Take the classifier over: its weights' memory format changes, in place.

        Args:
            classifier: the model.
            without: parts of the fast engine to leave out.
            compiled: by torch.compile.
            stem_channels: see `Frozen`.
        """
        super().__init__()
        self.classifier = classifier  # registered: train(), eval() and parameters() reach it
        self.notes: dict[str, str] = {}  # toggle -> why it is not in force
        net, bf16 = classifier.net, classifier.precision == "bf16"
        self._format = torch.contiguous_format if "channels-last" in without else torch.channels_last
        net.to(memory_format=self._format)
        self._live = Live(net, bf16=bf16, shadow="shadow" not in without, compiled=compiled)
        self._frozen: Frozen | None = None
        if "fold" not in without:
            self._freeze(torch.bfloat16 if bf16 else _dtype(net), stem_channels, compiled)
        self._modules_below = list(net.modules())

    @property
    def has_shadows(self) -> bool:
        """Whether weights have bfloat16 shadows."""
        return self._live.has_shadows

    @property
    def folds(self) -> bool:
        """Whether eval-mode attacks do without batch norm."""
        return self._frozen is not None

    @property
    def pads_stem(self) -> bool:
        """Whether eval-mode attacks pad the image's channels with zeros."""
        return self._frozen is not None and self._frozen.pads_stem

    def forward(self, x: Tensor) -> Tensor:
        normalised = self.classifier.normalise(x).contiguous(memory_format=self._format)
        constant = weights_constant()
        if self._frozen and constant and not any(module.training for module in self._modules_below):
            return self._frozen(normalised)
        return self._live(normalised, constant=constant)

    def _freeze(self, dtype: torch.dtype, stem_channels: int, compiled: bool) -> None:
        try:
            frozen = Frozen(self.classifier.net, dtype, stem_channels=stem_channels, compiled=compiled)
        except CannotFreezeError as error:
            self.notes["fold"] = str(error)
            return
        if frozen.folded:
            self._frozen = frozen
        else:
            self.notes["fold"] = "no batch norm follows a convolution"


def _dtype(net: nn.Module) -> torch.dtype:
    return next((parameter.dtype for parameter in net.parameters()), torch.float32)
