"""Commands whose options mean one thing: whoever gives one twice hears of it, as click keeps the last in silence."""

from typing import Any

import typer
from typer.core import TyperCommand, TyperOption


class Command(TyperCommand):
    """A command that refuses a second value for an option that takes one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the command line apart.

        Raises:
            typer.BadParameter: an option that takes one value is given twice.
        """
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option in given:
            if isinstance(option, TyperOption) and not (option.multiple or option.is_flag) and given.count(option) > 1:
                raise typer.BadParameter(f"{option.opts[0]} is given twice: leave one out")
        return super().parse_args(ctx, args)
