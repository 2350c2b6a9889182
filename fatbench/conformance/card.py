"""Card: the docstring of a method, and whether what it says of its cost is so."""

from fatbench.conformance.counted import counted, images
from fatbench.conformance.declared import FORM, Cost, declared_cost, section
from fatbench.conformance.finding import Verdict, failed, ok, unknown
from fatbench.conformance.subject import Subject

_NEAR = 1e-6


def is_a_card(subject: Subject) -> Verdict:
    """The docstring has a title, the meaning of every hyper-parameter, `Passes` and `Differences`."""
    description = subject.description
    missing = [] if description.title else ["a title"]
    missing += [f"the meaning of {name} in Args" for name, hyper in description.hyper.items() if not hyper.meaning]
    missing += [f"'{name}: ...'" for name in ("Passes", "Differences") if not section(description.docstring, name)]
    if not missing:
        return ok("title, hyper-parameters, passes, differences")
    return _lacking(subject, f"the docstring lacks {', '.join(missing)}")


def declares_passes(subject: Subject) -> Verdict:
    """The passes are the declared ones."""
    real, declared = _both(subject)
    if declared is None:
        return _lacking(subject, f"counted {real.passes}; not declared in a form that can be checked, as '{FORM}'")
    pairs = [(real.forward, declared.forward), (real.input_backward, declared.input_backward)]
    pairs += [(real.weight_backward, declared.weight_backward)]
    if any(abs(one - other) > _NEAR for one, other in pairs):
        return failed(f"counted {real.passes}; the docstring's Passes say {declared.passes}")
    return ok(real.passes)


def declares_batch_norm(subject: Subject) -> Verdict:
    """The updates of batch norm's statistics are the declared ones."""
    real, declared = _both(subject)
    said = f"{real.batch_norm_updates:g} per optimiser step"
    if declared is None:
        return _lacking(subject, f"{said}; not declared in a form that can be checked")
    if abs(real.batch_norm_updates - declared.batch_norm_updates) > _NEAR:
        return failed(f"counted {said}; the docstring's Passes say {declared.batch_norm_updates:g}")
    return ok(said)


def _both(subject: Subject) -> tuple[Cost, Cost | None]:
    real, updates = counted(subject.method, subject.norm)
    known = {"batch": images(), **subject.method.hyper}
    return real, declared_cost(subject.description.docstring, known, updates)


def _lacking(subject: Subject, what: str) -> Verdict:
    """What a method of fatbench must have, and one's own may lack."""
    return failed(what) if subject.registered else unknown(what)
