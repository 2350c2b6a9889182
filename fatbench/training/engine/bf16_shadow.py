"""The network in whatever mode it is, with float32 weights and bfloat16 shadows of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fatbench.models.classifier import logits_in

_CAST = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)  # what autocast would run in bfloat16, weights and all


class ShadowedNet:
    """A network as it is in this moment: batch norm in its own mode, gradients for the weights where they are wanted.

    In bf16, convolutions and linear layers read bfloat16 shadows of their float32 weights, refreshed by one fused copy
    after the weights have changed; autocast would cast every weight in every forward of an attack, because it remembers
    only casts of weights that ask for gradients. The last layer is computed in float32, if it is a linear one.
    """

    def __init__(self, net: nn.Module, *, bf16: bool, shadow: bool, compiled: bool) -> None:
        self._bf16 = bf16
        self._body, self._head = _split(net) if bf16 else (net, None)
        self._places = places(self._body)
        self._masters = _to_cast(self._places) if bf16 and shadow else []
        self._shadows = [
            torch.empty_like(master, dtype=torch.bfloat16, requires_grad=False) for master in self._masters
        ]
        self._shadow_of = {id(master): shadow for master, shadow in zip(self._masters, self._shadows, strict=True)}
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
            if weights is None:
                _, logits = logits_in(self._body(x))
            else:  # tied weights are all named: torch (2.14) would not put them back as they were
                _, logits = logits_in(functional_call(self._body, weights, (x,), tie_weights=False))
        return logits

    def _refresh(self) -> None:
        versions = [master._version for master in self._masters]
        if versions != self._versions:
            with torch.no_grad():
                torch._foreach_copy_(self._shadows, self._masters)
            self._versions = versions

    def _weights(self, constant: bool) -> dict[str, Tensor]:
        """Return what the network is to compute with, by the name of each parameter."""
        replacements: dict[int, Tensor] = {}
        weights = {}
        for key, place in self._places.items():
            weight = place.parameter
            if id(weight) not in replacements:
                replacements[id(weight)] = self._replacement(weight, constant)
            weights[key] = replacements[id(weight)]
        return weights

    def _replacement(self, weight: Tensor, constant: bool) -> Tensor:
        # What stands in a weight's place, as in functional_call, has no shadow: autocast casts it.
        shadow = self._shadow_of.get(id(weight))
        if shadow is not None:
            return shadow if constant else _Through.apply(weight, shadow)
        return weight.detach() if constant else weight


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
    if type(net) is nn.Sequential and len(net) > 1 and type(net[-1]) is nn.Linear:
        return net[:-1], net[-1]
    return net, None


class Place(NamedTuple):
    """Where a parameter lives: its module, and its name there."""

    owner: nn.Module
    name: str

    @property
    def parameter(self) -> Tensor:
        """What is there now."""
        parameter = self.owner._parameters[self.name]
        assert parameter is not None
        return parameter


def places(net: nn.Module) -> dict[str, Place]:
    """Return where each parameter lives, by its full name; one that several layers share, in each of them."""
    return {
        f"{path}.{name}" if path else name: Place(owner, name)
        for path, owner in net.named_modules()
        for name, _ in owner.named_parameters(recurse=False, remove_duplicate=False)
    }


def _to_cast(found: dict[str, Place]) -> list[Tensor]:
    """Return the float32 parameters that autocast would cast in each of their places."""
    weights = {id(place.parameter): place.parameter for place in found.values()}
    elsewhere = {id(place.parameter) for place in found.values() if not isinstance(place.owner, _CAST)}
    return [weight for key, weight in weights.items() if weight.dtype == torch.float32 and key not in elsewhere]
