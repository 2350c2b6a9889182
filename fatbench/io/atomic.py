"""Writing files so that no reader ever sees a half."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from fatbench.errors import ResourceError, WriteError


def write_atomically(path: Path, content: bytes, keep: Path | None = None) -> None:
    """Replace `path` by `content`: a reader sees the old file or the new, never a half.

    Args:
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
        temporary.chmod(0o666 & ~_umask())  # a temporary file is its owner's alone
        if keep is not None and path.is_file() and not path.is_symlink():
            _link(path, keep)
        temporary.replace(path)
        _settle(path.parent)
    except BaseException as error:  # Ctrl-C too leaves no litter
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise WriteError(path, error) from None


def link_atomically(path: Path, place: Path) -> None:
    """Let the file be found at `place` too, in the same folder, in place of what was there.

    Raises:
        ResourceError: it cannot be written there.
    """
    try:
        _link(path, place)
        _settle(place.parent)
    except OSError as error:
        raise WriteError(place, error) from None


def make_folder(folder: Path) -> None:
    """Make the folder, and those that it lies in.

    Raises:
        ResourceError: it cannot be, or something else is there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ResourceError(f"{folder} is a file, not a folder: choose another --output") from None
    except OSError as error:
        raise WriteError(folder, error) from None


def _umask() -> int:
    """Return the permissions that new files are not to have. To ask is to set: the strictest, for a moment."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _link(path: Path, place: Path) -> None:
    link = place.with_name(f".{place.name}.linked__")  # as temporary files are named, so that it is known for one
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(path)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, link)
        with link.open("rb+") as file:
            os.fsync(file.fileno())
    link.replace(place)


def _settle(folder: Path) -> None:
    """Have the folder itself on the disk, where the system can: else a name outlives no power cut."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
