"""Commands whose options mean one thing: whoever gives one twice hears of it, as click keeps the last in silence."""

from typing import Any

from typer.core import TyperCommand, TyperOption

from fatbench.errors import UsageError


class Command(TyperCommand):
    """A command that refuses a second value for an option that takes one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the command line apart.

        Raises:
            UsageError: an option that takes one value is given twice.
        """
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option in given:
            if isinstance(option, TyperOption) and not (option.multiple or option.is_flag) and given.count(option) > 1:
                raise UsageError(f"{option.opts[0]} is given twice: leave one out")
        return super().parse_args(ctx, args)
