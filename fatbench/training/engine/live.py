"""The network in whatever mode it is, with float32 weights and bfloat16 shadows of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

_CAST = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)  # what autocast would run in bfloat16, weights and all


class Live:
    """A network as it is in this moment: batch norm in its own mode, gradients for the weights where they are wanted.

    In bf16, convolutions and linear layers read bfloat16 shadows of their float32 weights, refreshed by one fused copy
    after the weights have changed; autocast would cast every weight in every forward of an attack, because it remembers
    only casts of weights that ask for gradients. The last layer is computed in float32, if it is a linear one.
    """

    def __init__(self, net: nn.Module, *, bf16: bool, shadow: bool, compiled: bool) -> None:
        self._bf16 = bf16
        self._body, self._head = _split(net) if bf16 else (net, None)
        self._places = _places(self._body)
        cast = _to_cast(self._body) if bf16 and shadow else set()
        self._masters = [_parameter(*place) for key, place in self._places.items() if key in cast]
        fresh = [torch.empty_like(master, dtype=torch.bfloat16, requires_grad=False) for master in self._masters]
        self._shadows = dict(zip([key for key in self._places if key in cast], fresh, strict=True))
        self._versions: list[int] = []
        # A compiler computes weight gradients of all weights that ask for them, wanted or not.
        self._swaps = bool(self._shadows) or compiled
        self._run: Callable[..., Tensor] = self._compute
        if compiled:
            self._run = torch.compile(self._compute, fullgraph=True, dynamic=False)

    def __call__(self, x: Tensor, *, constant: bool) -> Tensor:
        """(B, K) logits of normalised images; `constant`: nobody wants gradients of weights."""
        if self._shadows:
            self._refresh()
        features = self._run(x, self._weights(constant) if self._swaps else None)
        logits: Tensor = features if self._head is None else self._head(features.float())
        return logits.float() if logits.dtype == torch.bfloat16 else logits

    @property
    def has_shadows(self) -> bool:
        return bool(self._shadows)

    def _compute(self, x: Tensor, weights: dict[str, Tensor] | None) -> Tensor:
        # No cache: it would keep casts of weights beyond a captured graph's memory, and shadows need none.
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self._bf16, cache_enabled=False):
            output: Tensor = self._body(x) if weights is None else functional_call(self._body, weights, (x,))
        return output

    def _refresh(self) -> None:
        versions = [master._version for master in self._masters]
        if versions != self._versions:
            with torch.no_grad():
                torch._foreach_copy_(list(self._shadows.values()), self._masters)
            self._versions = versions

    def _weights(self, constant: bool) -> dict[str, Tensor]:
        weights = {}
        for key, (owner, name) in self._places.items():
            master, shadow = _parameter(owner, name), self._shadows.get(key)
            if constant:
                weights[key] = master.detach() if shadow is None else shadow
            else:
                weights[key] = master if shadow is None else _Through.apply(master, shadow)
        return weights


class _Through(torch.autograd.Function):
    """The shadow of a weight, whose gradient becomes the weight's in the weight's own precision."""

    @staticmethod
    def forward(ctx: Any, master: Tensor, shadow: Tensor) -> Tensor:
        ctx.dtype = master.dtype
        return shadow.view_as(shadow)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].to(ctx.dtype), None


def _split(net: nn.Module) -> tuple[nn.Module, nn.Linear | None]:
    """Return what comes before the last linear layer, and that layer, or the whole where it does not end in one."""
    if isinstance(net, nn.Sequential) and len(net) > 1 and isinstance(net[-1], nn.Linear):
        return net[:-1], net[-1]
    return net, None


def _places(net: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Return where each parameter lives, by its name: its module and its name there; a shared one once."""
    return {key: _place(net, key) for key, _ in net.named_parameters()}


def _place(net: nn.Module, key: str) -> tuple[nn.Module, str]:
    path, _, name = key.rpartition(".")
    return net.get_submodule(path), name


def _to_cast(net: nn.Module) -> set[str]:
    """Return the names of the float32 parameters that autocast would cast."""
    return {
        key
        for key, (owner, name) in _places(net).items()
        if isinstance(owner, _CAST) and _parameter(owner, name).dtype == torch.float32
    }


def _parameter(owner: nn.Module, name: str) -> Tensor:
    """Return what stands in the parameter's place now, which may be a stand-in of the parameter."""
    parameter = owner._parameters[name]
    assert parameter is not None
    return parameter
