"""What a method is not made for, said before anything is trained. No torch here."""

from fatbench.config.spec import RunSpec
from fatbench.errors import UsageError
from fatbench.methods._source import Description


def check_compatible(method: Description, spec: RunSpec) -> None:
    """Raise where the method is not made for what the spec asks of it.

    Raises:
        UsageError: in one line, which names the flag.
    """
    if spec.norm not in method.norms:
        raise UsageError(f"{method.name} is defined for --norm {', '.join(method.norms)} only")
    if spec.training.compile and method.not_compilable:
        raise UsageError(f"--compile: {method.name} cannot be compiled: {method.not_compilable}")
    if spec.training.awp is not None and method.several_updates:
        raise UsageError(f"--awp: {method.name} takes several steps of a batch: {method.several_updates}")
    if spec.training.label_smoothing is not None and not method.smooths:
        raise UsageError(f"--label-smoothing: {method.name} does not use ctx.smoothing, so it would change nothing")
