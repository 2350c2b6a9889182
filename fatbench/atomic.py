"""Writing files so that no reader ever sees a half."""

import os
import tempfile
from pathlib import Path

from fatbench.errors import ResourceError


def write_atomically(path: Path, content: bytes, keep: Path | None = None) -> None:
    """Replace `path` by `content`: a reader sees the old file or the new, never a half.

    Args:
        path: of the file.
        content: all of it.
        keep: where the old file is then found, in the same folder; by default it is gone.

    Raises:
        ResourceError: the file cannot be written there.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        if keep is not None and path.exists():
            _keep(path, keep)
        temporary.replace(path)
    except BaseException as error:  # Ctrl-C too leaves no litter
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise ResourceError(f"cannot write {path}: {error.strerror or error}; choose another --output") from None


def _keep(path: Path, place: Path) -> None:
    """Let the file be found at `place` too, so that at no moment there is none at `path`."""
    link = place.with_name(f".{place.name}.linked__")
    try:
        link.unlink(missing_ok=True)
        link.hardlink_to(path)
        link.replace(place)
    except OSError:  # a file system without hard links
        path.replace(place)
