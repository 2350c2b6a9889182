"""Own datasets as .npz files. They come from strangers: nothing is unpickled, sizes are checked before memory is."""

import math
import zipfile
from pathlib import Path
from typing import IO, Any

from numpy.lib import format as npy
from numpy.typing import NDArray

from fatbench.data.arrays import KEYS, LARGEST, Arrays, check
from fatbench.errors import FatbenchError, UsageError

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: Path) -> Arrays:
    """Return x_train, y_train, x_test and y_test of the file, checked and in the one layout.

    Raises:
        UsageError: anything wrong with the file, naming the array at fault.
    """
    with _open(path) as archive:
        _check_members(archive, path)
        return check({key: _read(archive, key, path) for key in KEYS}, where=str(path))


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    # A broken directory of the archive fails in many ways: BadZipFile, ValueError, struct.error, ...
    except Exception:
        raise UsageError(f"{path} is not an .npz file, or is cut short: write it with numpy.savez_compressed") from None


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    members = {info.filename[:-4]: info for info in archive.infolist() if info.filename.endswith(".npy")}
    missing = next((key for key in KEYS if key not in members), None)
    if missing is not None:
        has = ", ".join(sorted(members)[:8]) or "nothing"
        raise UsageError(f"{path} has no {missing}: it needs {', '.join(KEYS)}, and has {has:.200}")
    size = sum(members[key].file_size for key in KEYS)
    if size > LARGEST:
        raise UsageError(f"{path} unpacks to {size / 2**30:.0f} GiB; at most {LARGEST / 2**30:.0f} GiB can be read")


def _read(archive: zipfile.ZipFile, key: str, path: Path) -> NDArray[Any]:
    member = archive.getinfo(f"{key}.npy")
    try:
        with archive.open(member) as file:
            _check_header(file, member.file_size, f"{path}: {key}")
        with archive.open(member) as file:
            array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        return array
    except (FatbenchError, MemoryError):
        raise
    # A damaged member fails in many ways: BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, ...
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{path}: {key} is damaged ({reason:.120})") from None


def _check_header(file: IO[bytes], size: int, what: str) -> None:
    """Refuse what read_array would unpickle, or reserve memory for beyond the file's own size."""
    shape, _, dtype = _HEADERS[npy.read_magic(file)](file)
    if dtype.hasobject:
        raise UsageError(f"{what} holds Python objects, expected plain integers")
    if math.prod(shape) * dtype.itemsize > size:
        raise UsageError(f"{what} is cut short: its header says {shape}, the file holds less")
