"""Damaged, strange and malicious .npz files: datasets, and outcomes beside records."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from . import specimens
from .conftest import Answer
from .damage import Write, damaged, no_files
from .specimens import archive, npz

RUN = ("run", "-m", "standard", "-d", "bad.npz", "--epochs", 1, "--eval", "none", "--calibration", 0, "-q")
RUN += ("--batch-size", 8, "--model", "small-cnn")


class Trap:
    """Pickles to a call that leaves a folder behind."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


def header(description: str, version: bytes = b"\1\0") -> bytes:
    """Return the beginning of an array's file that claims to be so."""
    text = description.encode("latin-1")
    return b"\x93NUMPY" + version + struct.pack("<H" if version == b"\1\0" else "<I", len(text)) + text


def claimed(description: str, content: bytes = bytes(100), version: bytes = b"\1\0") -> bytes:
    """Return a dataset whose training images claim to be so."""
    whole = dict(np.load(io.BytesIO(specimens.arrays())))
    members = {f"{name}.npy": plain(array) for name, array in whole.items()}
    return archive(members | {"x_train.npy": header(description, version) + content})


def plain(array: np.ndarray, pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=pickle)
    return file.getvalue()


def enlarged(content: bytes, size: int) -> bytes:
    """Return the archive with members that claim to unpack to `size` bytes."""
    changed, at = bytearray(content), content.find(b"PK\1\2")
    while at >= 0:
        changed[at + 24 : at + 28] = struct.pack("<I", size)
        at = content.find(b"PK\1\2", at + 4)
    return bytes(changed)


traps = np.empty(16, dtype=object)
traps[:] = [Trap()] * 16
SHAPES = [
    "()",
    "(-1, 6, 5)",
    "(16, 6, 5.0)",
    "(10**20,)",
    f"({2**40}, 6, 5)",
    f"({2**63}, {2**63})",
    "(1,) * 40",
    "'x'",
]
BAD = {
    "object-dtype": npz({"x_train": traps, "y_train": traps, "x_test": traps, "y_test": traps}),
    "object-header": claimed("{'descr': '|O', 'fortran_order': False, 'shape': (16, 6, 5), }"),
    "object-in-structure": claimed("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (16,), }"),
    "pickle-alone": __import__("pickle").dumps(Trap()),
    "pickle-as-member": archive({f"{name}.npy": __import__("pickle").dumps(Trap()) for name in ("x_train", "y_train")}),
    "code-in-header": claimed("__import__('os').mkdir('ran')"),
    "long-header": claimed("{" + " " * 60000 + "}"),
    "deep-header": claimed("(" * 5000 + ")" * 5000),
    "version-2": claimed("{'descr': '|u1', 'fortran_order': False, 'shape': (16, 6, 5), }", version=b"\2\0"),
    "version-9": claimed("{'descr': '|u1', 'fortran_order': False, 'shape': (16, 6, 5), }", version=b"\x09\0"),
    "bomb-by-declared-size": enlarged(specimens.arrays(packed=True), 2**32 - 2),
    "bomb-by-content": claimed("{'descr': '|u1', 'fortran_order': False, 'shape': (2**31,), }", bytes(2**24)),
    "bomb-of-nothing": claimed(f"{{'descr': '|V0', 'fortran_order': False, 'shape': ({2**50},), }}"),
    "members-upwards": archive({"../../evil.npy": b"x", "x_train.npy": b"x"}),
    "member-twice": specimens.arrays() + specimens.arrays(),
    "no-members": archive({}),
    "many-members": archive({f"{k}.npy": b"" for k in range(5000)}),
    "names-of-controls": archive({"\x1b[2J\u202e.npy": b"", "x_train.npy": b""}),
    **{f"shape-{one}": claimed(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {one}, }}") for one in SHAPES},
    **{
        f"type-{one}": claimed(f"{{'descr': {one}, 'fortran_order': False, 'shape': (16, 6, 5), }}")
        for one in ("'|u999'", "'<U1'", "'|V0'", "'<f8'", "'<M8[s]'", "None", "[]", "[('a', '|u1')]", "'|S0'")
    },
    "huge-labels": npz(dict(np.load(io.BytesIO(specimens.arrays()))) | {"y_train": np.array([0, 2**62] * 8)}),
    "many-classes": npz(dict(np.load(io.BytesIO(specimens.arrays()))) | {"y_train": np.arange(16)}),
    "nan-images": npz(dict(np.load(io.BytesIO(specimens.arrays()))) | {"x_train": np.full((16, 6, 5), np.nan)}),
}
DATASETS = {
    **dict(damaged(specimens.arrays(), 10)),
    **{f"packed-{k}": v for k, v in damaged(specimens.arrays(True), 8)},
}


SOUND = ("version-2", "member-twice", "bomb-by-declared-size")  # a size that nobody goes by costs nothing


@pytest.mark.parametrize("name", DATASETS)
def test_damaged_datasets(answer: Answer, tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.npz").write_bytes(DATASETS[name])
    answer(*RUN)


@pytest.mark.parametrize("name", BAD)
def test_malicious_datasets_are_refused(answer: Answer, tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.npz").write_bytes(BAD[name])
    answer(*RUN, refused=name not in SOUND)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("name", "write"), list(no_files()))
def test_a_dataset_that_is_no_file(answer: Answer, tmp_path: Path, name: str, write: Write) -> None:
    write(tmp_path / "bad.npz")
    answer(*RUN, refused=True)


def outcomes(**changes: np.ndarray) -> bytes:
    sound = {
        "hashes": np.arange(10, dtype=np.uint64),
        "labels": np.arange(10),
        "broken_by pgd-20": np.zeros(10, np.int8),
    }
    return npz(
        sound
        | {"parts pgd-20": np.array(["clean", "pgd-20"])}
        | {k.replace("_", " ", 1): v for k, v in changes.items()}
    )


def compared(answer: Answer, folder: Path, content: bytes | Write) -> None:
    """Put content where the outcomes of a sound record should be."""
    path = specimens.put_record(folder, "a")
    specimens.put_record(folder, "b")
    (folder / "a" / "samples.npz").unlink()
    if isinstance(content, bytes):
        (folder / "a" / "samples.npz").write_bytes(content)
    else:
        content(folder / "a" / "samples.npz")
    for arguments in (("--paired",), ("--paired", "--on", "clean"), ()):
        answer("compare", path.name, "b.json", *arguments)
    assert not (folder / "ran").exists()


OUTCOMES = {
    **{
        name: outcomes(**{"parts_pgd-20": value})
        for name, value in {
            "no-parts": np.array([], dtype="U1"),
            "many-parts": np.array(["x"] * 5000),
            "parts-numbers": np.arange(3),
            "parts-long": np.array(["x" * 10**5] * 2),
            "parts-evil": np.array(["\x1b[2J", "\u202e"]),
        }.items()
    },
    "endless-parts": archive(
        {
            "hashes.npy": plain(np.arange(10, dtype=np.uint64)),
            "labels.npy": plain(np.arange(10)),
            "broken_by pgd-20.npy": plain(np.zeros(10, np.int8)),
            "parts pgd-20.npy": header(f"{{'descr': '<U0', 'fortran_order': False, 'shape': ({2**40},), }}"),
        }
    ),
    "hashes-of-objects": npz({"hashes": traps, "labels": traps}),
    "hashes-alone": npz({"hashes": np.arange(10, dtype=np.uint64)}),
    "labels-short": outcomes(labels=np.arange(3)),
    "labels-matrix": outcomes(labels=np.zeros((10, 2), dtype=np.int64)),
    "empty": outcomes(hashes=np.zeros(0, np.uint64), labels=np.zeros(0, np.int64)),
    "huge-verdicts": npz({"hashes": np.arange(10, dtype=np.uint64), "broken_by pgd-20": np.full(10, 127, np.int8)}),
    "big-endian": outcomes(hashes=np.arange(10, dtype=">u8")),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_strange_outcomes(answer: Answer, tmp_path: Path, name: str) -> None:
    compared(answer, tmp_path, OUTCOMES[name])


@pytest.mark.parametrize("name", [name for name, _ in damaged(outcomes(), 8)])
def test_damaged_outcomes(answer: Answer, tmp_path: Path, name: str) -> None:
    compared(answer, tmp_path, dict(damaged(outcomes(), 8))[name])


@pytest.mark.parametrize(("name", "write"), list(no_files()))
def test_outcomes_that_are_no_file(answer: Answer, tmp_path: Path, name: str, write: Write) -> None:
    compared(answer, tmp_path, write)
