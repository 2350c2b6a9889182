"""Checking: every check on a method, in each of its norms, and what they found."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch

from fatbench import methods
from fatbench.conformance.capture import captures, stays_in_bounds
from fatbench.conformance.card import declares_batch_norm, declares_passes, facts, is_a_card
from fatbench.conformance.report import Facts, Finding, Report, Verdict, failed
from fatbench.conformance.sandbox import describe_error, sandboxed
from fatbench.conformance.shapes_dtypes import augmented, bf16, channels, channels_last, odd_batches, two_classes
from fatbench.conformance.side_effects import keeps_batch, keeps_modes, keeps_weights, runs, trains
from fatbench.conformance.state import keeps_buffers_in_place, repeats, repeats_first_loss, resumes
from fatbench.conformance.threat_bounds import stays
from fatbench.conformance.toy_problem import Case
from fatbench.evaluation.eval_mode import isolated_rng
from fatbench.methods import Method

Check = Callable[[Case], Verdict]
CHECKS: dict[str, Check] = {
    "runs": runs,
    "losses": trains,
    "ball and box": stays,
    "modes": keeps_modes,
    "weights and gradients": keeps_weights,
    "batch": keeps_batch,
    "passes": declares_passes,
    "batch norm": declares_batch_norm,
    "same seed": repeats,
    "resume": resumes,
    "first loss twice": repeats_first_loss,
    "buffers": keeps_buffers_in_place,
    "CUDA graph": captures,
    "imports": stays_in_bounds,
    "bf16": bf16,
    "channels-last": channels_last,
    "odd batches": odd_batches,
    "two classes": two_classes,
    "channels": channels,
    "augmentation": augmented,
    "docstring": is_a_card,
}
_SEED = 0


def check(name: str) -> Report:
    """Return what the checks found of a method: a registered one's name, or the path of a file. Takes seconds.

    Raises:
        UsageError: there is no such method, or its file does not import.
    """
    method = sandboxed(methods.load(name))
    norms, registered = method.description.norms, method.description.path.parent == methods.FOLDER
    findings: list[Finding] = []
    for title, look in CHECKS.items():
        if findings and findings[0].status == "failed":
            findings.append(Finding(title, "skipped", "it does not run"))
        else:
            findings.append(_worst(title, look, [Case(method, norm, registered) for norm in norms]))
    return Report(method.name, tuple(findings), _facts(method) if findings[0].status != "failed" else None)


def _facts(method: Method) -> Facts | None:
    with suppress(Exception), _isolated():  # the check of passes has said why
        return facts(method)
    return None


def _worst(title: str, look: Check, cases: list[Case]) -> Finding:
    """The finding of the first norm in which the check fails, or else of the last."""
    for case in cases:
        verdict = _verdict(look, case)
        if verdict.status == "failed":
            where = f"{case.norm}: " if len(cases) > 1 else ""
            return Finding(title, "failed", f"{where}{verdict.detail}")
    return Finding(title, verdict.status, verdict.detail)


def _verdict(look: Check, case: Case) -> Verdict:
    with _isolated():
        try:
            return look(case)
        except (Exception, SystemExit) as error:  # anyone's method may raise anything
            return failed(describe_error(error, case.description.path))


@contextmanager
def _isolated() -> Iterator[None]:
    """A fixed seed inside; the caller's random generators stay as they are."""
    with isolated_rng(_SEED, torch.device("cpu")):
        yield
