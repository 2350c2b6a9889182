"""The model's surrogate: the same function up to rounding, in the arithmetic that the machine is fastest at."""

import copy
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from fatbench.environment import is_out_of_memory
from fatbench.errors import one_line
from fatbench.evaluation.eval_mode import float32_arithmetic
from fatbench.models.classifier import Classifier, logits_in
from fatbench.models.equivalence import Tolerance, answers, difference
from fatbench.models.folding import fold_batch_norms, has_hooks

Arithmetic = Literal["bf16", "tf32", "fp32"]
# How far answers may be from the model's. ResNet-18 in bf16 is at 0.007 (logits) and 0.02 (gradients) at most; a ReLU
# that turns changes a gradient, not a logit.
_TOLERANCE: dict[Arithmetic, Tolerance] = {
    "bf16": Tolerance(0.03, 0.2),
    "tf32": Tolerance(0.01, 0.1),
    "fp32": Tolerance(0.001, 0.02),
}


class SurrogateKind(NamedTuple):
    """How a surrogate computes."""

    arithmetic: Arithmetic
    folded: bool  # batch norms into convolutions

    def __str__(self) -> str:
        return f"{self.arithmetic}{', folded' if self.folded else ''}"


class Surrogate(nn.Module):
    """A copy of a classifier: channels last, batch norms folded, convolutions and linear layers in bfloat16.

    Normalisation and the last linear layer stay in float32, where bfloat16 would cost pixels and logits their bits.
    Only the input has a gradient.
    """

    def __init__(self, classifier: Classifier, kind: SurrogateKind) -> None:
        """Copy the classifier, which must be in eval mode; it stays as it is."""
        super().__init__()
        self.kind = kind
        self._original = (classifier,)  # in a tuple, lest its parameters be taken for this module's
        self.net = copy.deepcopy(classifier.net).eval().requires_grad_(False)
        if kind.folded:
            fold_batch_norms(self.net)
        self.net.requires_grad_(False)
        if kind.arithmetic == "bf16":
            _cast_layers(self.net)
        for module in self.net.modules():
            if isinstance(module, nn.Conv2d):
                # A copy: one input channel passes for any format, but with strides that later layers would not follow.
                module.weight.data = module.weight.data.clone(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K) float32 logits of (B, C, H, W) images in [0, 1]."""
        (classifier,) = self._original
        normalised = classifier.normalise(x).contiguous(memory_format=torch.channels_last)
        _, logits = logits_in(self.net(normalised))
        return logits.float()

    def arithmetic(self) -> AbstractContextManager[None]:
        """Allow TensorFloat-32 inside if it is this surrogate's way; then as before."""
        return float32_arithmetic("tf32" if self.kind.arithmetic == "tf32" else "ieee")


def surrogate_kinds(device: torch.device) -> list[SurrogateKind]:
    """Return how a surrogate may compute on the device, the fastest first."""
    kinds: list[Arithmetic] = ["fp32"]
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        kinds = ["bf16", "tf32"]  # the same GPUs have both
    if device.type == "cpu" and _cpu_has_bf16():
        kinds = ["bf16", "fp32"]
    return [SurrogateKind(kind, folded) for kind in kinds for folded in (True, False)]


def trusted_surrogate(classifier: Classifier, x: Tensor) -> tuple[Surrogate | None, str]:
    """Return the fastest surrogate that answers as the classifier does on the images x (B, C, H, W); or None, and why.

    Raises:
        torch.OutOfMemoryError, RuntimeError, MemoryError: memory does not suffice for so many images.
    """
    truth, why_not = answers(classifier, x), ""
    for kind in surrogate_kinds(x.device):
        try:
            surrogate = Surrogate(classifier, kind)
            with surrogate.arithmetic():
                found = answers(surrogate, x)
        except Exception as error:  # a user's network may not be copied, or fail on bfloat16, in any way
            if is_out_of_memory(error):
                raise
            why_not = one_line(f"a copy of it fails ({type(error).__name__}: {error})")
            continue
        if not difference(found, truth, _TOLERANCE[kind.arithmetic]):
            return surrogate, ""
        why_not = f"a copy of it answers otherwise in {kind}"
    return None, why_not


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _cast_layers(net: nn.Module) -> None:
    """Give convolutions and linear layers but the last bfloat16 weights; inputs of all of them follow the weights."""
    layers = [module for module in net.modules() if type(module) in (nn.Conv2d, nn.Linear) and not has_hooks(module)]
    linear = [layer for layer in layers if type(layer) is nn.Linear]
    for layer in layers:
        if layer not in linear[-1:]:
            layer.to(torch.bfloat16)
        layer.register_forward_pre_hook(_cast_input)


def _cast_input(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    x, *rest = inputs
    assert isinstance(layer.weight, Tensor)
    return x.to(layer.weight.dtype), *rest
