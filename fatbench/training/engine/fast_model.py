"""The model as the fast engine computes it: the same function of the same parameters, in less time."""

import torch
from torch import Tensor, nn

from fatbench.config.spec import EnginePart
from fatbench.models.classifier import Classifier
from fatbench.models.equivalence import Answer, mismatch
from fatbench.models.folding import has_hooks
from fatbench.ops import weights_constant
from fatbench.training.engine.bf16_shadow import ShadowedNet, places
from fatbench.training.engine.folded import CannotFoldError, FoldedNet

_TRIED_ON = 8  # images


class FastModel(nn.Module):
    """Images in [0, 1] to float32 logits: what the classifier gives, up to rounding, and with its parameters.

    The network runs in channels-last format. In eval mode, while nobody wants gradients of weights (an attack), copies
    of the weights are used into which batch norm is folded; otherwise the weights themselves, in bf16 by their shadows.
    What is stale is known from torch's version counters, so a method may change weights too; whatever changes weights
    unseen by them, as a fused optimiser and a replayed CUDA graph do, is to say so by `increment_version`.

    Each of these ways is tried on the first images that the model sees; where one does not give what the network gives
    without it, it is not taken, and `notes` says why.
    """

    def __init__(
        self,
        classifier: Classifier,
        without: tuple[EnginePart, ...] = (),
        *,
        compiled: bool = False,
        stem_channels: int = 0,
    ) -> None:
        """Take the classifier over: the memory format of its weights may change, in place."""
        super().__init__()
        self.classifier = classifier  # registered: train(), eval() and parameters() reach it
        self.notes: dict[str, str] = {}  # toggle -> why it is not in force
        self._without = without
        self._compiled = compiled
        self._stem_channels = stem_channels
        self._modules_below = list(classifier.net.modules())
        self._own = [(place, place.parameter) for place in places(classifier.net).values()]
        self._settled = False
        self._format = torch.contiguous_format
        self._shadowed: ShadowedNet | None = None
        self._folded: FoldedNet | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, K) float32 logits of (B, C, H, W) images in [0, 1]."""
        if not self._settled:
            self.settle(x)
        if self._shadowed is None:
            logits: Tensor = self.classifier(x)
            return logits
        normalised = self.classifier.normalise(x).contiguous(memory_format=self._format)
        constant = weights_constant()
        if self._folded and constant and self._is_itself_at_rest():
            return self._folded(normalised)
        return self._shadowed(normalised, constant=constant)

    @property
    def folds(self) -> bool:
        """Whether eval-mode attacks do without batch norm."""
        return self._folded is not None

    @property
    def in_force(self) -> dict[str, bool]:
        """Which of the ways are taken; known after the first forward."""
        return {
            "channels-last": self._format == torch.channels_last,
            "shadow": self._shadowed is not None and self._shadowed.has_shadows,
            "fold": self.folds,
            "pad-stem": self._folded is not None and self._folded.pads_stem,
            "compile": self._compiled and self._shadowed is not None,
        }

    def _is_itself_at_rest(self) -> bool:
        """Whether all is in eval mode, without hooks or anything in a parameter's place, as in `functional_call`."""
        resting = not any(module.training or has_hooks(module) for module in self._modules_below)
        return resting and all(place.parameter is parameter for place, parameter in self._own)

    def settle(self, x: Tensor) -> None:
        """Try each way on a few of the images x, and take those that give what the classifier gives."""
        self._settled, x = True, x.detach()[:_TRIED_ON]
        if any(has_hooks(module) for module in self._modules_below):
            self.disable("the network has hooks, which must run", "channels-last", "shadow", "fold", "compile")
            return
        if self._wants("channels-last"):
            why_not = self._objection_to_shadowed(x, torch.channels_last)
            if why_not:
                self.disable(why_not, "channels-last")
            else:
                self._format = torch.channels_last
        if self._format != torch.channels_last:
            why_not = self._objection_to_shadowed(x, self._format)
            if why_not:
                self.disable(why_not, "shadow", "fold", "compile")
                return
        _set_format(self.classifier.net, self._format)
        self._shadowed = self._build_shadowed(self.classifier, compiled=self._compiled)
        if self._wants("fold"):
            self._try_to_fold(x)

    def disable(self, why: str, *ways: str) -> None:
        """Do not take these ways, and note why."""
        wanted = [way for way in ways if way not in self._without and (way != "compile" or self._compiled)]
        self.notes |= dict.fromkeys(wanted, why)

    def _wants(self, way: str) -> bool:
        return way not in self._without and way not in self.notes

    def _build_shadowed(self, classifier: Classifier, *, compiled: bool = False) -> ShadowedNet:
        bf16, shadow = classifier.precision == "bf16", self._wants("shadow")
        return ShadowedNet(classifier.net, bf16=bf16, shadow=shadow, compiled=compiled)

    def _build_folded(self, classifier: Classifier, *, compiled: bool = False) -> FoldedNet:
        net, bf16 = classifier.net, classifier.precision == "bf16"
        dtype = torch.bfloat16 if bf16 else next(net.parameters()).dtype
        return FoldedNet(net, dtype, stem_channels=self._stem_channels, compiled=compiled)

    def _objection_to_shadowed(self, x: Tensor, memory_format: torch.memory_format) -> str:
        def build(copied: Classifier) -> Answer:
            _set_format(copied.net, memory_format)
            shadowed = self._build_shadowed(copied)
            return lambda z: shadowed(copied.normalise(z).contiguous(memory_format=memory_format), constant=False)

        return mismatch(self.classifier, build, x, training=True) or mismatch(self.classifier, build, x, training=False)

    def _try_to_fold(self, x: Tensor) -> None:
        def build(copied: Classifier) -> Answer:
            folded_net = self._build_folded(copied)
            return lambda z: folded_net(copied.normalise(z).contiguous(memory_format=self._format))

        try:
            folded_net = self._build_folded(self.classifier, compiled=self._compiled)
        except CannotFoldError as error:
            self.disable(str(error), "fold")
            return
        why_not = "" if folded_net.folded else "no batch norm follows a convolution"
        why_not = why_not or mismatch(self.classifier, build, x, training=False)
        if why_not:
            self.disable(why_not, "fold")
        else:
            self._folded = folded_net


def _set_format(net: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay the weights of two-dimensional convolutions out in `memory_format`, in place; the rest follows them."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            # A copy: one input channel passes for any format, but with strides that later layers would not follow.
            module.weight.data = module.weight.data.clone(memory_format=memory_format)
