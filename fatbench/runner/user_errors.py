"""Errors in a user's own method or model, told apart from bugs of fatbench."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fatbench import methods
from fatbench.config.spec import RunSpec
from fatbench.errors import FatbenchError, InvalidRunError, one_line
from fatbench.models.classifier import NotLogitsError


@contextmanager
def user_errors_named(spec: RunSpec) -> Iterator[None]:
    """Let exceptions through; those from a file that the user brought become one line that names its line.

    Raises:
        InvalidRunError: for what a method or model of the user's own has raised, or for a call of sys.exit.
    """
    try:
        yield
    except (KeyboardInterrupt, FatbenchError):
        raise
    except NotLogitsError as error:  # of a network that does not always return the same
        raise InvalidRunError(str(error)) from error
    except (Exception, SystemExit) as error:
        message = one_line(f"{type(error).__name__}: {error}")
        place = _own_line(error, spec)
        if place is not None:
            raise InvalidRunError(f"{place}: {message}") from error
        if isinstance(error, SystemExit):
            raise InvalidRunError(f"something in the run called sys.exit: {message}") from error
        raise


def _own_line(error: BaseException, spec: RunSpec) -> str | None:
    """Return file:line of the innermost frame in a file or package that the user brought, or None if there is none."""
    model, _, _ = spec.model.rpartition(":")
    module = sys.modules.get(model)  # package.module:factory
    names = [spec.method, model, str(getattr(module, "__file__", None) or "")]
    own = {Path(name).resolve() for name in names if name.endswith(".py")}
    with suppress(FatbenchError):
        own |= {described.path.resolve() for described in [methods.describe(spec.method)] if described.package}
    library = getattr(sys.modules.get(model.partition(".")[0]), "__path__", ())  # of which the module is a part
    own |= {Path(folder).resolve() for folder in library}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename).resolve()
        if not own.isdisjoint((path, *path.parents)):
            return f"{frame.filename}:{frame.lineno}"
    return None
