"""A network in eval mode with constant weights: what an attack differentiates, batch norm folded into convolutions."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fatbench.models.classifier import logits_in
from fatbench.models.folding import Affine, affine, foldable, folded, layer_of, trace
from fatbench.training.engine.stem import widened


class CannotFoldError(Exception):
    """The network is not of the kind that can be frozen; the message says why."""


class FoldedNet:
    """The function that a network computes in eval mode, from copies of its weights that carry no graph.

    Every batch norm that follows a convolution is folded into it. Only input gradients flow through. The copies are
    made anew, in place, after weights or statistics have changed, as torch's version counters tell.
    """

    def __init__(self, net: nn.Module, dtype: torch.dtype, *, stem_channels: int = 0, compiled: bool = False) -> None:
        """Copy `net`, which stays as it is.

        Args:
            dtype: of the copies and of what flows between them; the last linear layer keeps its own, for the logits.
            stem_channels: pad the input of a narrower first convolution to so many channels, with zeros.

        Raises:
            CannotFoldError: it cannot be traced, or has parameters in layers unknown here.
        """
        graph, modules = _checked_graph(net)
        pairs = foldable(graph, modules)
        self.folded = len(pairs)
        layers: dict[str, nn.Module] = {}
        for target in dict.fromkeys(_called(graph)):
            layers[target] = _constant(modules[target], dtype)
        for convolution, norm in pairs.items():
            source, follower = modules[str(convolution.target)], modules[str(norm.target)]
            assert isinstance(source, nn.Conv2d) and isinstance(follower, nn.BatchNorm2d)  # noqa: PT018
            layers[str(convolution.target)] = _Convolution(source, dtype, follower)
            norm.replace_all_uses_with(convolution)
            graph.erase_node(norm)
            del layers[str(norm.target)]
        stem = layers[_called(graph)[0]]
        if isinstance(stem, _Convolution):
            stem.widen(stem_channels)
        last = layers[_called(graph)[-1]]
        if isinstance(last, _Linear):
            last.allocate(last.computed(None)[0].dtype)
        self._net = fx.GraphModule(layers, graph, class_name="FoldedNet").eval()
        self._layers = [layer for layer in layers.values() if isinstance(layer, _Copy)]
        self._run = torch.compile(self._net, fullgraph=True, dynamic=False) if compiled else self._net
        # Running statistics change without their versions' doing so; batch norm's count of batches then tells.
        self._sources = [*net.parameters(), *net.buffers()]
        self._versions: list[int] = []

    @property
    def pads_stem(self) -> bool:
        """Whether the first convolution takes more channels than the images have."""
        return any(layer.padded for layer in self._layers if isinstance(layer, _Convolution))

    def __call__(self, x: Tensor) -> Tensor:
        """(B, K) logits of normalised images, as the network would give them in eval mode."""
        versions = [source._version for source in self._sources]
        if versions != self._versions:
            self._refresh()
            self._versions = versions
        _, logits = logits_in(self._run(x))
        return logits.float() if logits.dtype == torch.bfloat16 else logits

    @torch.no_grad()
    def _refresh(self) -> None:
        norms = [layer.norm for layer in self._layers if layer.norm is not None]
        maps = dict(zip(norms, affine(norms), strict=True))
        fresh = [layer.computed(maps.get(layer.norm)) for layer in self._layers]  # type: ignore[arg-type]
        copies = [copy for layer in self._layers for copy in (layer.weight, layer.bias) if copy is not None]
        torch._foreach_copy_(copies, [tensor for pair in fresh for tensor in pair if tensor is not None])


class _Copy(nn.Module):
    """A layer whose weight and bias are copies, of type `dtype`, of what `computed` gives."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, source: nn.Conv2d | nn.Linear, dtype: torch.dtype, norm: nn.BatchNorm2d | None = None) -> None:
        super().__init__()
        self._hidden = (source, norm)  # in a tuple, lest their parameters be taken for this module's
        self.padded = 0
        self.allocate(dtype)

    @property
    def norm(self) -> nn.BatchNorm2d | None:
        """The batch norm that is folded into this layer."""
        return self._hidden[1]

    @torch.no_grad()
    def allocate(self, dtype: torch.dtype) -> None:
        """Make room for copies of type `dtype`."""
        by = None if self.norm is None else affine([self.norm])[0]
        for name, like in zip(("weight", "bias"), self.computed(by), strict=True):
            empty = None if like is None else torch.empty_like(like, dtype=dtype, requires_grad=False)
            self.register_buffer(name, empty, persistent=False)

    def computed(self, by: Affine | None) -> tuple[Tensor, Tensor | None]:
        """The weight and bias that the source has now, in its own precision; `by` is the folded batch norm's."""
        weight, bias = folded(self._hidden[0], by)
        return F.pad(weight, (0, 0, 0, 0, 0, self.padded)) if self.padded else weight, bias


class _Convolution(_Copy):
    """A convolution, or a convolution and the batch norm after it, as one with constant weights."""

    def widen(self, channels: int) -> None:
        """Take inputs of `channels` channels, those beyond the source's being padded with zeros."""
        source, _ = self._hidden
        assert isinstance(source, nn.Conv2d)
        if source.groups == 1 and source.in_channels < channels:
            self.padded = channels - source.in_channels
            self.allocate(self.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        source, _ = self._hidden
        assert isinstance(source, nn.Conv2d)
        x = x.to(self.weight.dtype)
        x = widened(x, self.weight.shape[1]) if self.padded else x
        return F.conv2d(x, self.weight, self.bias, source.stride, source.padding, source.dilation, source.groups)


class _Linear(_Copy):
    """A linear layer with constant weights."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


class _Norm(nn.Module):
    """A batch norm in eval mode that no convolution precedes; parameters and statistics are read where they lie."""

    def __init__(self, source: nn.BatchNorm2d) -> None:
        super().__init__()
        self._source = (source,)

    def forward(self, x: Tensor) -> Tensor:
        (source,) = self._source
        weight, bias = (None if one is None else one.detach() for one in (source.weight, source.bias))
        return F.batch_norm(x, source.running_mean, source.running_var, weight, bias, False, 0.0, source.eps)


def _checked_graph(net: nn.Module) -> tuple[fx.Graph, dict[str, nn.Module]]:
    """Return the graph that `net` computes in eval mode, and its modules by name."""
    try:
        graph = trace(net)
    except Exception as error:  # a user's forward may do anything
        raise CannotFoldError(f"its forward cannot be traced ({type(error).__name__})") from None
    modules = dict(net.named_modules())
    for module in modules.values():
        if type(module) is not nn.BatchNorm2d and next(module.buffers(recurse=False), None) is not None:
            raise CannotFoldError(f"{type(module).__name__} keeps a buffer, which tracing may take for a constant")
    for node in graph.nodes:
        if node.op == "get_attr":
            raise CannotFoldError(f"it uses '{node.target}' outside a layer")
        module = layer_of(node, modules)
        if module is None:
            continue
        known = type(module) in (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
        if not known and next(module.parameters(), None) is not None:
            raise CannotFoldError(f"{type(module).__name__} is a layer that it does not know")
        if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
            raise CannotFoldError(f"a convolution pads with {module.padding_mode}")
        if isinstance(module, nn.BatchNorm2d) and module.running_var is None:
            raise CannotFoldError("a batch norm keeps no running statistics")
        if isinstance(module, nn.BatchNorm2d) and module.num_batches_tracked is None:
            why = "by which changes of its statistics are seen"
            raise CannotFoldError(f"a batch norm does not count its batches, {why}")
    return graph, modules


def _constant(source: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return what stands for the layer `source` in a frozen network."""
    if isinstance(source, nn.Conv2d):
        return _Convolution(source, dtype)
    if isinstance(source, nn.Linear):
        return _Linear(source, dtype)
    # Anything else has no parameters, as _checked_graph has seen; but it has a mode, which is not to be shared.
    return _Norm(source) if isinstance(source, nn.BatchNorm2d) else copy.deepcopy(source)


def _called(graph: fx.Graph) -> list[str]:
    """Return the names of the layers in the order of their calls."""
    return [str(node.target) for node in graph.nodes if node.op == "call_module"]
