"""Arrays out of .npz files, which are untrusted: nothing is unpickled, sizes are checked before memory is allocated."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fatbench.errors import FatbenchError, UsageError
from fatbench.io.safe_read import open_file

if TYPE_CHECKING:
    from numpy.typing import NDArray


def read_arrays(
    path: Path,
    wanted: Callable[[Collection[str]], Collection[str]],
    largest: int,
    remedy: str = "write it with numpy.savez_compressed",
) -> dict[str, NDArray[Any]]:
    """Return arrays of the file by name.

    Args:
        wanted: given the names that there are, returns which to read; it may raise UsageError.
        largest: bytes that all of them together may take.

    Raises:
        UsageError: anything wrong with the file, naming the array at fault.
    """
    with open_file(path) as file, _opened(file, path, remedy) as archive:
        members = {info.filename[:-4]: info for info in archive.infolist() if info.filename.endswith(".npy")}
        names = wanted(list(members))
        size = sum(members[name].file_size for name in names)
        if size > largest:
            raise UsageError(f"{path} unpacks to {size / 2**30:.3g} GiB; at most {largest / 2**30:.3g} GiB can be read")
        return {name: _read(archive, name, path, remedy) for name in names}


def _opened(file: IO[bytes], path: Path, remedy: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    # A broken directory of the archive fails in many ways: BadZipFile, ValueError, struct.error, ...
    except Exception:
        raise UsageError(f"{path} is not an .npz file, or is cut short: {remedy}") from None


def _read(archive: zipfile.ZipFile, name: str, path: Path, remedy: str) -> NDArray[Any]:
    from numpy.lib import format as npy

    member = archive.getinfo(f"{name}.npy")
    try:
        with archive.open(member) as file:
            _check_header(file, member.file_size, f"{path}: {name}")
        with archive.open(member) as file:
            array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        return array
    except (FatbenchError, MemoryError):
        raise
    # A damaged member fails in many ways: BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, ...
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{path}: {name} is damaged ({reason:.120}): {remedy}") from None


def _check_header(file: IO[bytes], size: int, what: str) -> None:
    """Refuse what read_array would unpickle, or reserve memory for beyond the file's own size."""
    from numpy.lib import format as npy

    headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shape, _, dtype = headers[npy.read_magic(file)](file)
    if dtype.hasobject:
        raise UsageError(f"{what} holds Python objects, expected plain numbers or text")
    if math.prod(shape) * dtype.itemsize > size:
        raise UsageError(f"{what} is cut short: its header says {shape}, the file holds less")
