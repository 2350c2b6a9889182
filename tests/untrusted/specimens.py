"""Sound files of every kind that is read, as bytes: what the damage is done to."""

import io
import json
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from fatbench import models
from fatbench.record import Record, save
from fatbench.record.samples import save_samples
from tests.report import records

PRESET = b"""# A recipe
method = "fgsm-rs"
dataset = "digits"
eps = "8/255"
epochs = 1
lr = 0.1
batch_size = 64
evaluate = ["clean"]
[hyper.fgsm-rs]
alpha = 1.25
"""
METHOD = b'''import torch.nn.functional as F


def mine(model, batch, ctx, *, alpha: float = 1.0):
    """Mine: what it does (Me, 2026).

    Args:
        alpha: step size, in units of eps.

    Passes: 1 forward, 1 backward.
    """
    x, y, _ = batch
    yield F.cross_entropy(model(x), y)
'''


@cache
def record() -> Record:
    """Return a record with something in every part."""
    extra: dict[str, Any] = {
        "history": [records.probe(1, 100, 50)],
        "events": [records.event("collapse")],
        "artefacts": {"weights": "sound/model.safetensors", "samples": "sound/samples.npz"},
        "scores": {"clean": records.score(6, 10), "pgd-20": records.score(5, 10, attack={"version": "standard"})},
        "memory": {"training_bytes": 1},
        **records.doubtful("softmax-outputs"),
        **records.selected(),
        **records.measured(),
    }
    return records.record(fields=extra)


@cache
def record_content() -> bytes:
    """Return that record's file, without the line breaks that would make it long."""
    return json.dumps(json.loads(record().model_dump_json(by_alias=True))).encode()


@cache
def samples(folder: Path) -> bytes:
    """Return the file of outcomes that goes with the record."""
    save_samples(records.samples([1] * 5 + [0] * 5), folder / "samples.npz")
    return (folder / "samples.npz").read_bytes()


def put_record(folder: Path, name: str = "other") -> Path:
    """Write the sound record and its outcomes below `folder`."""
    (folder / name).mkdir()
    save_samples(records.samples([1] * 5 + [0] * 5), folder / name / "samples.npz")
    artefacts = {"samples": f"{name}/samples.npz"}
    return save(record().model_copy(update={"artefacts": artefacts}), folder, f"{name}.json")


@cache
def arrays(packed: bool = False) -> bytes:
    """Return an .npz file of two classes of 6x5 images."""
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (24, 6, 5), dtype=np.uint8)
    return npz({"x_train": x[:16], "y_train": np.arange(16) % 2, "x_test": x[16:], "y_test": np.arange(8) % 2}, packed)


def npz(content: dict[str, Any], packed: bool = False) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(file, **content)
    return file.getvalue()


def archive(members: dict[str, bytes], packed: bool = True) -> bytes:
    """Return a zip file of those members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as whole:
        for name, content in members.items():
            whole.writestr(name, content)
    return file.getvalue()


@cache
def weights() -> dict[str, torch.Tensor]:
    """Return the state of a small-cnn for those images, as fatbench saves it."""
    model = models.build("small-cnn", num_classes=2, shape=(1, 6, 5), mean=[0.5], std=[0.2])
    return {name: value.contiguous() for name, value in model.state_dict().items()}


@cache
def safetensors_file() -> bytes:
    content: bytes = safetensors.torch.save(weights(), {"model": "small-cnn"})
    return content


@cache
def torch_file() -> bytes:
    return pickled({"epoch": 3, "state_dict": weights()})


def pickled(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@cache
def image(size: tuple[int, int] = (6, 5), form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, size[::-1], dtype=np.uint8)).save(file, form)
    return file.getvalue()


def put_images(folder: Path) -> None:
    """Write a sound image folder: two classes with three images on each side."""
    for side in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / side / name).mkdir(parents=True)
            for k in range(3):
                (folder / side / name / f"{k}.png").write_bytes(image())
