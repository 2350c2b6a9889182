"""Case: the method that is checked, in one norm."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor, nn

from fatbench.conformance.sandbox import sandboxed
from fatbench.conformance.toy_problem import ToyProblem, losses
from fatbench.interface import Batch, Context
from fatbench.methods import Description, Method, again


@dataclass(frozen=True)
class Case:
    """A method, and the norm in which it is checked."""

    method: Method  # guarded
    norm: str
    registered: bool  # one of fatbench's own: its card must be complete

    @property
    def description(self) -> Description:
        return self.method.description

    @property
    def problem(self) -> ToyProblem:
        """The usual one."""
        return ToyProblem(norm=self.norm)

    def again(self) -> Method:
        """The method as another process would have it: nothing is left of what it kept outside `ctx.buffers`."""
        return sandboxed(again(self.method))

    def variants(self) -> list[Method]:
        """The method at its defaults, and with every other word of every choice."""
        choices = ((one.name, word) for one in self.description.hyper.values() for word in one.choices)
        others = [{name: word} for name, word in choices if word != self.method.hyper[name]]
        return [replace(self.method, hyper={**self.method.hyper, **changed}) for changed in ({}, *others)]

    def losses(
        self, model: nn.Module, ctx: Context | None = None, method: Method | None = None
    ) -> Iterator[tuple[Batch, Tensor]]:
        """As `problem.losses`, of the first batches in float64."""
        return losses(self.problem, method or self.method, model, ctx or self.problem.context())
