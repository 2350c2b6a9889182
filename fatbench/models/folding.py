"""Batch norm in eval mode is an affine map: folded into the convolution before it, it costs nothing."""

from collections import Counter

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold_batch_norms(net: nn.Module) -> int:
    """Fold every batch norm of `net` that alone reads a convolution into it, in place; return how many.

    Args:
        net: in eval mode, and to stay so. One whose forward torch.fx cannot follow stays as it is. What a forward does
            with its layers besides calling them goes unseen, so the outcome is to be compared with the original.
    """
    modules = dict(net.named_modules())
    pairs = _pairs(net, modules)
    for convolution, norm in pairs:
        source, follower = modules[convolution], modules[norm]
        assert isinstance(source, nn.Conv2d) and isinstance(follower, nn.BatchNorm2d)  # noqa: PT018
        mean, variance = follower.running_mean, follower.running_var
        assert mean is not None and variance is not None  # noqa: PT018
        source.weight, source.bias = fuse_conv_bn_weights(
            source.weight, source.bias, mean, variance, follower.eps, follower.weight, follower.bias
        )
        net.set_submodule(norm, nn.Identity())
    return len(pairs)


def has_hooks(module: nn.Module) -> bool:
    """Whether a call of the module does more than its forward: the weight may not be what it seems."""
    return bool(module._forward_pre_hooks or module._forward_hooks)


def _pairs(net: nn.Module, modules: dict[str, nn.Module]) -> list[tuple[str, str]]:
    """The names of convolutions and of the batch norms after them; each is called once, and nothing is in between."""
    try:
        graph = fx.Tracer().trace(net)
    except Exception:  # strangers' forwards may do anything
        return []
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or not _is_foldable(modules[node.target]):
            continue
        before = node.args[0]
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        plain = _is_plain(modules[str(before.target)], nn.Conv2d)
        if plain and calls[before.target] == calls[node.target] == 1:
            pairs.append((str(before.target), str(node.target)))
    return pairs


def _is_foldable(module: nn.Module) -> bool:
    return _is_plain(module, nn.BatchNorm2d) and module.running_var is not None


def _is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    return type(module) is kind and not has_hooks(module)
