"""Matching: put weights from elsewhere into a network, or say which of them do not fit."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from fatbench.errors import UsageError
from fatbench.models.classifier import Classifier

_PREFIXES = ("module.", "model.", "net.", "_orig_mod.")  # of DataParallel, Lightning, wrappers and torch.compile
_COUNTER = "num_batches_tracked"  # batch norm counts since torch 0.4.1, and uses the number in training only
_AVERAGED, _AVERAGES = "module.", "n_averaged"  # in torch's AveragedModel: the network, and of how many it is the mean
_NAMED = 3  # keys that a message names of each kind
_LONGEST = 60


def put_in(classifier: Classifier, tensors: Mapping[str, Tensor], what: str, entry: str | None = None) -> bool:
    """Fill the classifier with `tensors`, and return whether they brought their normalisation, as fatbench's own do.

    Outside checkpoints fit the network in it, if need be without a prefix such as "module."; types become the
    network's, so half precision becomes float32.

    Args:
        entry: of the file, in which the tensors are.

    Raises:
        UsageError: they do not fit; the line begins with `what` and names the first that do not.
    """
    own = _is_own(tensors)
    variants = list(_variants(tensors))
    for variant in variants:
        if _misfit(classifier.net, variant) is None:
            classifier.net.load_state_dict(variant, strict=False)  # but for batch norm's counters, all is there
            return False
    expected = classifier.net.state_dict().keys()
    nearest = max(variants, key=lambda variant: len(variant.keys() & expected))
    misfit = _misfit(classifier, tensors) if own else _misfit(classifier.net, nearest)
    if misfit is not None:
        hint = "" if own else _prefix_hint(classifier.net, tensors, entry)
        raise UsageError(f"{what}: {hint or f'{misfit}; give the --model and --dataset that the weights are of'}")
    classifier.load_state_dict(dict(tensors), strict=False)
    return True


def _is_own(tensors: Mapping[str, Tensor]) -> bool:
    """Whether this is what `Classifier.state_dict` gives: mean, std, and a network."""
    return {"mean", "std"} <= tensors.keys() and all(
        name in ("mean", "std") or name.startswith("net.") for name in tensors
    )


def _variants(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The tensors as they are named, then without the prefixes that all of them have, one after the other."""
    variant = dict(tensors)
    yield variant
    if all(name.startswith(_AVERAGED) for name in variant if name != _AVERAGES):
        variant.pop(_AVERAGES, None)
    while variant and (shared := next((p for p in _PREFIXES if all(name.startswith(p) for name in variant)), None)):
        variant = {name.removeprefix(shared): value for name, value in variant.items()}
        yield variant


def _misfit(module: nn.Module, tensors: Mapping[str, Tensor]) -> str | None:
    """What does not fit, in words; None if everything does."""
    expected = module.state_dict()
    missing = [name for name in expected if name not in tensors and not name.endswith(_COUNTER)]
    unexpected = [name for name in tensors if name not in expected and not name.endswith(_COUNTER)]
    if missing or unexpected:
        kinds = {"missing": missing, "unexpected": unexpected}
        return "; ".join(f"{kind} {_first(names)}" for kind, names in kinds.items() if names)
    wrong = [name for name, value in tensors.items() if name in expected and not _same_kind(value, expected[name])]
    if not wrong:
        return None
    name, found, wanted = wrong[0], tensors[wrong[0]], expected[wrong[0]]
    if _is_other_head(expected, {one: tensors[one] for one in wrong}):
        layer = f"{name.rpartition('.')[0]:.{_LONGEST}}"
        return f"its last layer, {layer}, is of {len(found)} classes, and the data has {len(wanted)}"
    return f"{name:.{_LONGEST}} is {_form(found)}, expected {_form(wanted)}"


def _is_other_head(expected: Mapping[str, Tensor], wrong: Mapping[str, Tensor]) -> bool:
    """Whether what does not fit is the last layer alone, made for another number of classes."""
    last = list(expected)[-1].rpartition(".")[0]
    return all(
        name.rpartition(".")[0] == last and value.ndim and value.shape[1:] == expected[name].shape[1:]
        for name, value in wrong.items()
    ) and all(len(value) != len(expected[name]) for name, value in wrong.items())


def _prefix_hint(net: nn.Module, tensors: Mapping[str, Tensor], entry: str | None) -> str:
    """What to do where some of the tensors fit, those whose names begin with a prefix; or ""."""
    names = [name for name in net.state_dict() if not name.endswith(_COUNTER)]
    prefixes = [name.removesuffix(names[0]) for name in tensors if names and name.endswith(f".{names[0]}")]
    parts = {
        one: {name.removeprefix(one): tensors[name] for name in tensors if name.startswith(one)} for one in prefixes
    }
    fitting = [prefix for prefix, part in parts.items() if _misfit(net, part) is None]
    if not fitting:
        return ""
    rest = _first([name for name in tensors if not name.startswith(fitting[0])])
    keys = " or ".join(
        f"--checkpoint-key {'.'.join([entry, one] if entry else [one])[:-1]}" for one in fitting[:_NAMED]
    )
    what = f"with the prefix '{fitting[0]}' all {len(names)} of the network's names fit"
    return f"{what}; left over: {rest}; {keys} takes those that fit alone"


def _same_kind(found: Tensor, expected: Tensor) -> bool:
    plain = found.layout == torch.strided and not found.is_quantized and not found.is_meta and not found.is_complex()
    return plain and found.shape == expected.shape and found.is_floating_point() == expected.is_floating_point()


def _form(tensor: Tensor) -> str:
    kind = "quantised " if tensor.is_quantized else "sparse " if tensor.layout != torch.strided else ""
    empty = " without values" if tensor.is_meta else ""
    return f"{kind}{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}{empty}"


def _first(names: list[str]) -> str:
    shown = ", ".join(f"{name:.{_LONGEST}}" for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
