"""A word of warning about an eps that was nearly the usual one."""

import typer

from fatbench.spec import RunSpec

_USUAL = 8 / 255


def warn_about_eps(spec: RunSpec) -> None:
    """Print a warning if eps is nearly 8/255: papers that trained at 0.031 are compared with those that meant 8/255."""
    if spec.norm == "linf" and spec.epsilon != _USUAL and abs(spec.epsilon / _USUAL - 1) < 0.05:
        line = f"fatbench: warning: eps {spec.eps} is not 8/255 = {_USUAL:.5f}; write --eps 8/255 for that"
        typer.echo(line, err=True)
