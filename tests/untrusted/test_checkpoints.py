"""Damaged, strange and malicious checkpoints."""

import json
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from . import specimens
from .conftest import Answer
from .damage import Write, damaged, no_files
from .specimens import archive, pickled

ASK = ("--model", "small-cnn", "--dataset", "data.npz", "--eval", "clean", "-q")


class Trap:
    """Pickles to a call that leaves a folder behind."""

    def __init__(self, call: Any = os.mkdir, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments or ("ran",)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.arguments


def tensors(header: Any, content: bytes = bytes(64), size: int | None = None) -> bytes:
    """Return a safetensors file with that header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + content


def one(dtype: Any = "F32", shape: Any = (4, 4), offsets: Any = (0, 64)) -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def first_weight(value: torch.Tensor) -> dict[str, torch.Tensor]:
    name = next(name for name, one in specimens.weights().items() if one.ndim == 4)
    return specimens.weights() | {name: value}


WEIGHT = next(one for one in specimens.weights().values() if one.ndim == 4)
SAFETENSORS = {
    **dict(damaged(specimens.safetensors_file(), 8)),
    "header-of-2^63": tensors({}, size=2**63),
    "header-beyond-file": tensors({}, size=10**6),
    "header-deep": tensors(b'{"a":' * 10**5),
    "header-list": tensors([]),
    "header-null": tensors(b"null"),
    "header-twice": tensors(b'{"a":{"dtype":"F32","shape":[4,4],"data_offsets":[0,64]},"a":{}}'),
    "metadata-deep": tensors(b'{"__metadata__":{"model":' + b"[" * 10**5),
    "metadata-number": tensors({"__metadata__": {"model": 3}} | one()),
    "metadata-code": tensors({"__metadata__": {"model": "net.py:net"}} | one()),
    "metadata-path": tensors({"__metadata__": {"model": "../../evil.py:evil"}} | one()),
    "type-unknown": tensors(one(dtype="X9")),
    "type-f8": tensors(one("F8_E4M3", [8, 8])),
    "type-bool": tensors(one("BOOL", [64])),
    "shape-huge": tensors(one(shape=[2**40, 2**40])),
    "shape-negative": tensors(one(shape=[-4, -4])),
    "offsets-reversed": tensors(one(offsets=[64, 0])),
    "offsets-beyond": tensors(one(offsets=[0, 2**40])),
    "name-evil": tensors({"\x1b[2J\u202e" * 50: one()["a"]}),
    "names-many": tensors({str(k): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for k in range(20000)}, b""),
}
TORCH = {
    **dict(damaged(specimens.torch_file(), 8)),
    "trap": pickled(Trap()),
    "trap-deep": pickled({"state_dict": OrderedDict(a=torch.ones(2), b=[Trap()])}),
    "trap-system": pickled(Trap(os.system, "mkdir ran")),
    "trap-eval": pickled(Trap(eval, "__import__('os').mkdir('ran')")),
    "trap-getattr": pickled(Trap(getattr, torch.nn.Linear, "__init__")),
    "trap-load": pickled(Trap(torch.hub.load_state_dict_from_url, "file:///etc/passwd")),
    "trap-plain": pickle.dumps(Trap()),
    "trap-protocol-0": pickle.dumps(Trap(), protocol=0),
    "trap-in-archive": archive({"archive/data.pkl": pickle.dumps(Trap()), "archive/version": b"3\n"}, packed=False),
    "whole-model": pickled(torch.nn.Linear(2, 2)),
    "list": pickled([1, 2]),
    "number": pickled(3),
    "none": pickled(None),
    "empty-dict": pickled({}),
    "itself": pickled({"model": {"model": {"model": {}}}}),
    "numbers-for-names": pickled({k: torch.ones(2) for k in range(5)}),
    "wrong-shape": pickled(first_weight(torch.ones(3, 3))),
    "integers": pickled(first_weight(torch.ones(WEIGHT.shape, dtype=torch.int64))),
    "complex": pickled(first_weight(torch.ones(WEIGHT.shape, dtype=torch.complex64))),
    "sparse": pickled(first_weight(torch.ones(WEIGHT.shape).to_sparse())),
    "meta": pickled(first_weight(torch.ones(WEIGHT.shape, device="meta"))),
    "nan": pickled(first_weight(torch.full(WEIGHT.shape, torch.nan))),
    "huge": pickled(first_weight(torch.full(WEIGHT.shape, 1e38))),
    "expanded": pickled(first_weight(torch.zeros(1).expand(2**40))),
    "requires-grad": pickled(
        {"model": {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in specimens.weights().items()}}
    ),
    "names-evil": pickled({"\x1b[2J\u202e": torch.ones(2)}),
    "zip-of-nothing": archive({}),
    "zip-bomb": archive({"archive/data.pkl": bytes(2**24), "archive/version": b"3\n"}),
    "deep": b"\x80\x02" + b"(" * 10**5 + b"l" * 10**5 + b".",
    "memory": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
}


@pytest.fixture(autouse=True)
def _data(tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(specimens.arrays())


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors(answer: Answer, tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.safetensors").write_bytes(SAFETENSORS[name])
    answer("eval", "bad.safetensors", *ASK)
    answer("eval", "bad.safetensors", "--dataset", "data.npz", "--dry-run")


@pytest.mark.parametrize("name", TORCH)
def test_what_torch_saved(answer: Answer, tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.pt").write_bytes(TORCH[name])
    answer("eval", "bad.pt", *ASK, refused=name.startswith("trap"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("name", "write"), list(no_files()))
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_a_checkpoint_that_is_no_file(answer: Answer, tmp_path: Path, name: str, write: Write, kind: str) -> None:
    write(tmp_path / f"bad.{kind}")
    answer("eval", f"bad.{kind}", *ASK, refused=True)


def test_the_traps_would_have_sprung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(TORCH["trap-plain"])
    assert (tmp_path / "ran").is_dir()
