"""Batch norm in eval mode is an affine map: folded into the convolution before it, it costs nothing."""

import torch
from torch import Tensor, fx, nn

from fatbench.ops import evaluating

Affine = tuple[Tensor, Tensor]
"""Scale and shift, (C,) each: what a batch norm computes in eval mode."""


def trace(net: nn.Module) -> fx.Graph:
    """Return the graph that `net` computes in eval mode; the net stays as it is.

    Raises:
        Exception: of any kind, where torch.fx cannot follow its forward.
    """
    with evaluating(net):
        return fx.Tracer().trace(net)


def foldable(graph: fx.Graph, modules: dict[str, nn.Module]) -> dict[fx.Node, fx.Node]:
    """Return each convolution whose only reader is a batch norm with running statistics, and that batch norm.

    Both are called once, and are torch's own layers without hooks.
    """
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    pairs = {}
    for node in graph.nodes:
        norm = layer_of(node, modules)
        if not _is_plain(norm, nn.BatchNorm2d) or getattr(norm, "running_var", None) is None:
            continue
        before = next(iter(node.all_input_nodes), None)
        if before is None or not _is_plain(layer_of(before, modules), nn.Conv2d) or len(before.users) > 1:
            continue
        if calls.count(before.target) == calls.count(node.target) == 1:
            pairs[before] = node
    return pairs


def affine(norms: list[nn.BatchNorm2d]) -> list[Affine]:
    """Return the scale and shift of each batch norm in eval mode; few kernels for all, since they are so small."""
    if not norms:
        return []
    means, variances = ([getattr(norm, name) for norm in norms] for name in ("running_mean", "running_var"))
    scales = list(torch._foreach_add(variances, [norm.eps for norm in norms]))
    torch._foreach_rsqrt_(scales)
    weights: list[Tensor] = [
        torch.ones_like(scale) if norm.weight is None else norm.weight
        for norm, scale in zip(norms, scales, strict=True)
    ]
    torch._foreach_mul_(scales, weights)
    biases: list[Tensor] = [
        torch.zeros_like(scale) if norm.bias is None else norm.bias for norm, scale in zip(norms, scales, strict=True)
    ]
    shifts = torch._foreach_sub(biases, list(torch._foreach_mul(means, scales)))
    return list(zip(scales, shifts, strict=True))


def folded(source: nn.Conv2d | nn.Linear, by: Affine | None) -> tuple[Tensor, Tensor | None]:
    """Return the weight and bias of a layer followed by the affine map `by`, in the layer's own precision."""
    if by is None:
        return source.weight, source.bias
    scale, shift = by
    bias = shift if source.bias is None else source.bias * scale + shift
    return source.weight * scale.view(-1, 1, 1, 1), bias


def fold_batch_norms(net: nn.Module) -> int:
    """Fold every batch norm of `net` that can be into the convolution before it, in place; return how many.

    Args:
        net: in eval mode, and to stay so. One whose forward torch.fx cannot follow stays as it is. What a forward does
            with its layers besides calling them goes unseen, so the outcome is to be compared with the original.
    """
    modules = dict(net.named_modules())
    try:
        pairs = foldable(trace(net), modules)
    except Exception:  # the forward is a user's, and may do anything
        return 0
    for convolution, norm in pairs.items():
        source, follower = modules[str(convolution.target)], modules[str(norm.target)]
        assert isinstance(source, nn.Conv2d) and isinstance(follower, nn.BatchNorm2d)  # noqa: PT018
        with torch.no_grad():
            weight, bias = folded(source, affine([follower])[0])
        source.weight = nn.Parameter(weight)
        source.bias = None if bias is None else nn.Parameter(bias)
        net.set_submodule(str(norm.target), nn.Identity())
    return len(pairs)


def layer_of(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    """Return the module that the node calls, if it calls one."""
    return modules[str(node.target)] if node.op == "call_module" else None


def has_hooks(module: nn.Module) -> bool:
    """Return whether a call of the module does more than its forward: the weight may not be what it seems."""
    kinds = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    return any(kinds)


def _is_plain(module: nn.Module | None, kind: type[nn.Module]) -> bool:
    return type(module) is kind and not has_hooks(module)
