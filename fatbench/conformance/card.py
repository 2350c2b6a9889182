"""Card: the docstring of a method, and whether what it says of its cost is so."""

from fatbench.conformance.case import Case
from fatbench.conformance.counted import counted, images
from fatbench.conformance.declared import FORM, Cost, declared_cost, section
from fatbench.conformance.report import Verdict, failed, ok, unknown

_NEAR = 1e-6


def is_a_card(case: Case) -> Verdict:
    """The docstring has a title, the meaning of every hyper-parameter, `Passes` and `Differences`."""
    description = case.description
    missing = [] if description.title else ["a title"]
    missing += [f"the meaning of {name} in Args" for name, hyper in description.hyper.items() if not hyper.meaning]
    missing += [f"'{name}: ...'" for name in ("Passes", "Differences") if not section(description.docstring, name)]
    if not missing:
        return ok("title, hyper-parameters, passes, differences")
    return _lacking(case, f"the docstring lacks {', '.join(missing)}")


def declares_passes(case: Case) -> Verdict:
    """The passes are the declared ones."""
    real, declared = _both(case)
    if declared is None:
        return _lacking(case, f"counted {real.passes}; not declared in a form that can be checked, as '{FORM}'")
    pairs = [(real.forward, declared.forward), (real.input_backward, declared.input_backward)]
    pairs += [(real.weight_backward, declared.weight_backward)]
    if any(abs(one - other) > _NEAR for one, other in pairs):
        return failed(f"counted {real.passes}; the docstring's Passes say {declared.passes}")
    return ok(real.passes)


def declares_batch_norm(case: Case) -> Verdict:
    """The updates of batch norm's statistics are the declared ones."""
    real, declared = _both(case)
    said = f"{real.batch_norm_updates:g} per optimiser step"
    if declared is None:
        return _lacking(case, f"{said}; not declared in a form that can be checked")
    if abs(real.batch_norm_updates - declared.batch_norm_updates) > _NEAR:
        return failed(f"counted {said}; the docstring's Passes say {declared.batch_norm_updates:g}")
    return ok(said)


def _both(case: Case) -> tuple[Cost, Cost | None]:
    real, updates = counted(case.method, case.norm)
    known = {"batch": images(), **case.method.hyper}
    return real, declared_cost(case.description.docstring, known, updates)


def _lacking(case: Case, what: str) -> Verdict:
    """What a method of fatbench must have, and one's own may lack."""
    return failed(what) if case.registered else unknown(what)
