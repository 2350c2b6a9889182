"""Capture: can a whole update be recorded as one CUDA graph, as far as a CPU can tell."""

import ast
import re
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fatbench.conformance.report import Verdict, declared, failed, ok
from fatbench.conformance.sandbox import describe_error
from fatbench.conformance.toy_problem import Case, batches

_aten = torch.ops.aten
# A number that the host reads; sizes that depend on values; decompositions and draws that check themselves
_READS = "_local_scalar_dense equal allclose is_nonzero"
_SIZES = "nonzero masked_select unique_dim _unique2 unique_consecutive unique_dim_consecutive bincount _to_sparse"
_VERDICTS = (
    "_linalg_svd _linalg_eigh linalg_eig linalg_eigvals _linalg_eigvals linalg_lstsq linalg_pinv linalg_matrix_exp "
    "_linalg_check_errors multinomial"
)
_WAITING = frozenset(f"{_READS} {_SIZES} {_VERDICTS}".split())
_HOST_CALLS = {"item", "cpu", "tolist", "numpy", "cuda", "nonzero"}
_HOST_DRAWS = re.compile(r"(random|(np|numpy)\.random)\.\w+$")
_MET = ("fatbench.interface", "fatbench.ops", "fatbench.threat", "fatbench.crop_flip", "fatbench.methods")


class _WaitsError(Exception):
    """The host would have to wait for the device here."""


class WaitsForNothing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fails where the host would have to wait for a device: a CUDA graph cannot hold that."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet, named = func.overloadpacket, kwargs or {}
        if packet.__name__ in _WAITING or _chooses(packet, args) or _lacks_a_size(packet, args, named):
            raise _WaitsError(f"{packet.__name__} makes the host wait for the device")
        return func(*args, **named)


def _chooses(packet: Any, args: Any) -> bool:
    """Whether a mask decides how many elements there are, which a host must know; one value for all needs none."""
    if packet not in (_aten.index, _aten.index_put, _aten.index_put_):
        return False
    if packet is not _aten.index and args[2].numel() == 1:
        return False
    return any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1])


def _lacks_a_size(packet: Any, args: Any, named: Any) -> bool:
    """Whether the device is asked for what might have been given: how many elements there are, or a range."""
    if packet is _aten.repeat_interleave:
        return named.get("output_size") is None
    if packet is _aten.histc:
        low, high = (*args[2:], 0, 0)[:2]
        return bool(low == high)
    return False


def captures(case: Case) -> Verdict:
    """Nothing in an update waits for the device or branches on what a graph would freeze, unless that is declared."""
    why_not = case.description.not_capturable
    if why_not:
        return declared(f"no: {why_not}")
    remedy = "do without, or declare NOT_CAPTURABLE with the reason"
    found = host_calls(case.description.source)
    if found:
        return failed(f"{found[0]}: {remedy}")
    model, ctx = case.problem.model().double(), case.problem.context()
    for batch in batches(case.problem, ctx):
        try:
            with WaitsForNothing():  # type: ignore[no-untyped-call]
                for loss in case.method(model, batch, ctx):
                    loss.backward()  # type: ignore[no-untyped-call]
        except _WaitsError as error:
            return failed(f"{describe_error(error, case.description.path)}: {remedy}".replace("_WaitsError ", ""))
    return ok("as far as a CPU can tell")


def host_calls(source: str) -> list[str]:
    """Return what in a method's source waits for a device, or would be frozen in a recording, each with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _HOST_CALLS:
            found.append(f"line {node.lineno}: .{node.func.attr}() waits for the device")
        elif isinstance(node, ast.Call) and _HOST_DRAWS.match(ast.unparse(node.func)):
            found.append(f"line {node.lineno}: {ast.unparse(node.func)}() is drawn on the host and would be frozen")
        elif isinstance(node, (ast.If, ast.IfExp, ast.While, ast.Assert)):
            test = ast.unparse(node.test)
            if re.search(r"\.(step|progress)\b(?!\()", test):
                found.append(f"line {node.lineno}: a branch on {test} would be frozen")
    return found


def stays_in_bounds(case: Case) -> Verdict:
    """It imports nothing of fatbench that lies around its arguments: trainer, data and models."""
    in_package = bool(case.description.module)
    for node in ast.walk(ast.parse(case.description.source)):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        if isinstance(node, ast.ImportFrom) and node.level and not in_package:
            return failed(f"line {node.lineno}: a relative import has no meaning in a file on its own")
        beyond = [one for one in _modules(node) if f"{one}.".startswith("fatbench.") and not one.startswith(_MET)]
        if beyond:
            what = f"line {node.lineno}: it imports {beyond[0]}"
            return failed(f"{what}: a method uses its arguments, and fatbench.interface, ops, threat and crop_flip")
    return ok("model, batch and ctx are all it uses")


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [] if node.level else [f"{node.module}.{alias.name}" for alias in node.names]
