"""What --set says: hyper-parameters, of one method among several or of all of them."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from fatbench.errors import UsageError
from fatbench.methods import Description


def assignments(texts: Sequence[str], described: Collection[Description]) -> dict[str | None, dict[str, str]]:
    """Return what is set, by method; None for all of them.

    Raises:
        UsageError: one is not of the form [METHOD.]NAME=VALUE, the same is set twice, or what is set for all is
            known to some methods alone.
    """
    found: dict[str | None, dict[str, str]] = defaultdict(dict)
    for text in texts:
        method, name, value = _assignment(text, described)
        if name in found[method]:
            key = f"{method}.{name}" if method else name
            raise UsageError(f"--set {key} is given twice, as {found[method][name]} and as {value}: leave one out")
        found[method][name] = value
    for name, value in found[None].items():
        lacking = next((one.name for one in described if name not in one.hyper), None)
        having = next((one.name for one in described if name in one.hyper), None)
        if lacking and having:
            raise UsageError(f"{lacking} has no '{name}'; for one method alone: --set {having}.{name}={value:.40}")
    return found


def _assignment(text: str, described: Collection[Description]) -> tuple[str | None, str, str]:
    """Return (method or None, name, value) from "[METHOD.]NAME=VALUE"."""
    key, equals, value = text.partition("=")
    method, _, name = key.strip().rpartition(".")
    if not equals or not name:
        raise UsageError(f"--set takes NAME=VALUE, or METHOD.NAME=VALUE, not '{text}'")
    known = [description.name for description in described]
    method = method.replace("_", "-")
    if method and method not in known:
        raise UsageError(f"--set {key}: {method} is not among the methods to run ({', '.join(known)})")
    return method or None, name, value
