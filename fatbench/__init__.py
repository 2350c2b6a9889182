"""fatbench: a benchmark of fast adversarial training.

`run`, `evaluate`, `load` and `compare` are the command line as functions; importing them loads no torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fatbench.api import compare, evaluate, frame, load, run

__version__ = "0.1.0"
__all__ = ["compare", "evaluate", "frame", "load", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'fatbench' has no attribute '{name}'")
    from fatbench import api

    return getattr(api, name)
