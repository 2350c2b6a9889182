"""Card: the docstring of a method, and whether the cost that it declares is the real one."""

from fatbench.conformance.case import Case
from fatbench.conformance.counted import counted, images
from fatbench.conformance.report import Verdict, failed, ok, unknown
from fatbench.methods._cost import FORM, Cost

_NEAR = 1e-6


def is_a_card(case: Case) -> Verdict:
    """The docstring has a title, the meaning of every hyper-parameter, and `Differences`."""
    description = case.description
    missing = [] if description.title else ["a title"]
    missing += [f"the meaning of {name} in Args" for name, hyper in description.hyper.items() if not hyper.meaning]
    missing += [f"'{name}: ...'" for name in ("Differences",) if f"{name}:" not in description.docstring]
    if not missing:
        return ok("title, hyper-parameters, differences")
    return _lacking(case, f"the docstring lacks {', '.join(missing)}")


def declares_passes(case: Case) -> Verdict:
    """The passes are the declared ones."""
    real, declared = _both(case)
    if declared is None:
        return _lacking(case, f"counted {real.passes}; not declared, as {FORM}")
    pairs = [(real.forward, declared.forward), (real.input_backward, declared.input_backward)]
    pairs += [(real.weight_backward, declared.weight_backward)]
    if any(abs(one - other) > _NEAR for one, other in pairs):
        return failed(f"counted {real.passes}; PASSES says {declared.passes}")
    return ok(real.passes)


def declares_batch_norm(case: Case) -> Verdict:
    """The updates of batch norm's statistics are the declared ones."""
    real, declared = _both(case)
    said = f"{real.batch_norm_updates:g} per optimiser step"
    if declared is None:
        return _lacking(case, f"{said}; not declared by PASSES")
    if abs(real.batch_norm_updates - declared.batch_norm_updates) > _NEAR:
        return failed(f"counted {said}; PASSES says {declared.batch_norm_updates:g}")
    return ok(said)


def _both(case: Case) -> tuple[Cost, Cost | None]:
    real, _ = counted(case.method, case.norm)
    return real, case.description.cost(case.method.hyper, images())


def _lacking(case: Case, what: str) -> Verdict:
    """What a method of fatbench must have, and one's own may lack."""
    return failed(what) if case.registered else unknown(what)
