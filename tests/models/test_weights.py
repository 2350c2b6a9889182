"""Untrusted checkpoints: read without running anything, fitted to a model, refused in one clear line."""

import argparse
import collections
import datetime
import enum
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from fatbench.errors import UsageError
from fatbench.models.classifier import Classifier
from fatbench.models.matching import put_in
from fatbench.models.weights import read_weights


def make_net(width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(width * 36, 10))


STATE = make_net().state_dict()


def classifier(width: int = 4) -> Classifier:
    return Classifier(make_net(width), [0.0], [1.0])


def prefixed(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "net.", "_orig_mod.", "module.model.", "_orig_mod.module."]
)
def test_prefixes_are_taken_off_where_that_makes_the_names_fit(prefix: str, tmp_path: Path) -> None:
    model = classifier()
    own = put_in(model, read_weights(saved(prefixed(prefix), tmp_path / "a.pt")).tensors, "a.pt")
    assert not own
    assert all(torch.equal(value, STATE[name]) for name, value in model.net.state_dict().items())


def test_a_network_that_has_such_a_name_itself_is_left_alone() -> None:
    model = Classifier(nn.ModuleDict({"model": make_net()}), [0.0], [1.0])
    put_in(model, prefixed("module.model."), "a.pt")
    assert torch.equal(model.net.state_dict()["model.0.weight"], STATE["0.weight"])


@pytest.mark.parametrize("entry", ["state_dict", "model_state_dict", "model", "net", "ema", "rmodel"])
def test_a_state_dict_among_other_things(entry: str, tmp_path: Path) -> None:
    optimizer = torch.optim.SGD(make_net().parameters(), lr=0.1, momentum=0.9).state_dict()
    path = saved(
        {"epoch": 3, "lr": torch.tensor(0.1), "best": 0.4, entry: STATE, "optimizer": optimizer}, tmp_path / "a"
    )
    if entry == "rmodel":  # a name that nobody knows counts only where no tensor lies outside
        path = saved({"epoch": 3, entry: STATE, "optimizer": optimizer}, tmp_path / "a")
    weights = read_weights(path)
    assert (weights.entry, weights.others) == (entry, ())
    assert weights.tensors.keys() == STATE.keys()


def test_of_several_models_the_plain_one_is_taken_and_the_others_are_named(tmp_path: Path) -> None:
    weights = read_weights(saved({"ema": prefixed("e."), "state_dict": STATE, "teacher": STATE}, tmp_path / "a.pt"))
    assert (weights.entry, weights.others) == ("state_dict", ("ema", "teacher"))


def test_what_is_no_tensor_among_weights_is_left_out(tmp_path: Path) -> None:
    weights = read_weights(saved({**STATE, "epoch": 3, "arch": "net"}, tmp_path / "a.pt"))
    assert weights.tensors.keys() == STATE.keys()


class Phase(enum.Enum):
    TRAIN = 1


class Settings(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class _Touching:
    """An object that creates a file when it is unpickled, by a function that no list of dangerous ones has."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return touch, (self.path,)


def touch(path: Path) -> None:
    path.touch()


class _TouchingByMethod(_Touching):
    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)  # which is found by a call of getattr


BESIDE: dict[str, Any] = {
    "epoch": 3,
    "acc": np.float64(93.1),
    "confusion": np.eye(2),
    "args": argparse.Namespace(lr=0.1, out=Path("runs"), windows=PureWindowsPath("runs")),
    "hyper_parameters": Settings(phase=Phase.TRAIN, shape=torch.Size([1, 8, 8]), nested=Settings(rate=0.1)),
    "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.4), "at": datetime.datetime(2026, 1, 1)}},
    "by phase": {Phase.TRAIN: [1, 2], "kept": {1, 2}, "frozen": frozenset("a")},
    "losses": collections.defaultdict(list, train=[0.1]),
    "optimizer": torch.optim.SGD(make_net().parameters(), lr=0.1, momentum=0.9),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize(
    ("weights", "key", "entry", "others"),
    [
        ({"state_dict": prefixed("model.")}, None, "state_dict", ()),
        ({"net": prefixed("module._orig_mod.")}, None, "net", ()),
        ({"state_dict": Settings(STATE)}, None, "state_dict", ()),
        ({"state_dict": {}, "state_dict_ema": STATE}, "state_dict_ema", "state_dict_ema", ()),
        ({"model": STATE, "criterion": {"weight": torch.zeros(1)}, "model_ema": STATE}, None, "model", ("model_ema",)),
        ({"model": make_net().state_dict(), "model_ema": prefixed("module.")}, "model_ema", "model_ema", ()),
        ({"model": {"n_averaged": torch.tensor(3), **prefixed("module.")}}, None, "model", ()),
        ({"checkpoint": {"model": STATE}}, None, "checkpoint.model", ()),
        ({"checkpoint": {"model": prefixed("a."), "v1.ema": STATE}}, "checkpoint.v1.ema", "checkpoint.v1.ema", ()),
        ({"model": prefixed("student.") | {"teacher.a": torch.zeros(1)}}, "model.student", "model.student", ()),
    ],
)
def test_what_trainers_write_beside_weights_is_passed_over_and_never_run(
    weights: dict[str, Any], key: str | None, entry: str, others: tuple[str, ...], zipped: bool, tmp_path: Path
) -> None:
    path, content = tmp_path / "a.pt", {**BESIDE, "trap": _Touching(tmp_path / "sprung"), **weights}
    allowed = set(torch.serialization.get_safe_globals())
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    model, found = classifier(), read_weights(path, key)
    put_in(model, found.tensors, "a.pt", found.entry)
    assert all(torch.equal(value, STATE[name]) for name, value in model.net.state_dict().items())
    assert (found.entry, found.others) == (entry, others)
    assert not (tmp_path / "sprung").exists()
    assert set(torch.serialization.get_safe_globals()) == allowed


def test_an_averaged_model_loads_whole(tmp_path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(make_net())
    averaged.update_parameters(make_net())
    model = classifier()
    put_in(model, read_weights(saved(averaged.state_dict(), tmp_path / "a.pt")).tensors, "a.pt")
    assert torch.equal(model.net.state_dict()["3.weight"], averaged.module[3].weight)


def test_a_key_that_leads_nowhere_is_answered_with_those_that_do(tmp_path: Path) -> None:
    path = saved(
        {"model": STATE, "kept": {"best": STATE}, "whole": make_net(), "in": {"it": make_net()}, "epoch": 3},
        tmp_path / "a.pt",
    )
    for key, line in {
        "ema": "has no weights at 'ema' (--checkpoint-key); it has them at model, kept.best",
        "epoch": "has no weights at 'epoch'",
        "model.0.weight.x": "has no weights at 'model.0.weight.x'",
        "": "has no weights at ''",
        "in.it": "torch.save(x['in']['it'].state_dict(), 'weights.pt')`",
        "whole": ": its 'whole' is a pickled torch.nn.modules.container.Sequential, whose code would have to run",
    }.items():
        with pytest.raises(UsageError) as error:
            read_weights(path, key)
        assert line in str(error.value)


def test_safetensors_by_any_name_and_a_prefix_in_it(tmp_path: Path) -> None:
    safetensors.torch.save_file({**prefixed("a.b."), "c": torch.zeros(1)}, tmp_path / "a.bin", {"format": "pt"})
    model = classifier()
    put_in(model, read_weights(tmp_path / "a.bin", "a.b").tensors, "a.bin")
    assert torch.equal(model.net.state_dict()["0.weight"], STATE["0.weight"])


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    halves = {name: value.half() if value.is_floating_point() else value for name, value in STATE.items()}
    safetensors.torch.save_file(halves, tmp_path / "a.safetensors")
    model = classifier()
    put_in(model, read_weights(tmp_path / "a.safetensors").tensors, "a")
    weight = model.net.state_dict()["0.weight"]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, STATE["0.weight"].half().float())


def test_counters_of_batch_norm_are_not_missed() -> None:
    model = classifier()
    put_in(model, {name: value for name, value in STATE.items() if "tracked" not in name}, "a.pt")
    assert torch.equal(model.net.state_dict()["1.running_var"], STATE["1.running_var"])


def test_fatbenchs_own_bring_their_normalisation() -> None:
    trained = Classifier(make_net(), [0.3], [0.2])
    model = classifier()
    assert put_in(model, trained.state_dict(), "own")
    assert (float(model.mean), float(model.std)) == (pytest.approx(0.3), pytest.approx(0.2))


def test_a_normalisation_layer_in_the_network_just_fits() -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.full((1, 1, 1, 1), 0.3))
            self.register_buffer("std", torch.full((1, 1, 1, 1), 0.2))
            self.net = make_net()

    model = Classifier(Normalised(), [0.0], [1.0])
    assert not put_in(model, prefixed("module.", Normalised().state_dict()), "a.pt")
    assert float(model.mean) == 0.0


@pytest.mark.parametrize(
    ("tensors", "line"),
    [
        ({}, "a.pt: missing 0.weight, 0.bias, 1.weight and 5 more; give the --model and --dataset"),
        ({"features.0.weight": torch.zeros(1)}, "; unexpected features.0.weight; give"),
        ({**STATE, "extra": torch.zeros(1)}, "a.pt: unexpected extra; give"),
        (prefixed("module.", {**STATE, "extra": torch.zeros(1)}), "a.pt: unexpected extra; give"),
        (
            {**prefixed("net."), "criterion.weight": torch.zeros(1)},
            "a.pt: with the prefix 'net.' all 8 of the network's names fit; left over: criterion.weight; "
            "--checkpoint-key state_dict.net takes those that fit alone",
        ),
        (
            {**prefixed("student."), **prefixed("teacher.")},
            "and 6 more; --checkpoint-key state_dict.student or --checkpoint-key state_dict.teacher takes",
        ),
        (
            {**STATE, "3.weight": torch.zeros(100, 144), "3.bias": torch.zeros(100)},
            "a.pt: its last layer, 3, is of 100 classes, and the data has 10; give",
        ),
        (make_net(5).state_dict(), "a.pt: 0.weight is float32 of shape (5, 1, 3, 3), expected float32 of shape (4, 1"),
        ({**STATE, "0.bias": torch.zeros(4, dtype=torch.int8)}, "a.pt: 0.bias is int8 of shape (4,), expected float32"),
        ({**STATE, "0.bias": torch.zeros(4, dtype=torch.complex64)}, "a.pt: 0.bias is complex64"),
        ({**STATE, "0.bias": torch.zeros(4).to_sparse()}, "a.pt: 0.bias is sparse float32"),
        ({**STATE, "0.bias": torch.zeros(4, device="meta")}, "a.pt: 0.bias is float32 of shape (4,) without values"),
        (
            {**Classifier(make_net(5), [0.0], [1.0]).state_dict()},
            "a.pt: net.0.weight is float32 of shape (5, 1, 3, 3), expected float32 of shape (4, 1",
        ),
    ],
)
def test_what_does_not_fit_is_named(tensors: dict[str, Tensor], line: str) -> None:
    model = classifier()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UsageError) as error:
        put_in(model, tensors, "a.pt", "state_dict")
    assert line in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class _Trap:
    """An object that creates a file when it is unpickled the careless way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", b"0123")


def _script(path: Path) -> None:
    content = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), content)
    path.write_bytes(content.getvalue())


@dataclass(slots=True)
class _Slots:
    rate: float = 0.1


_PICKLED = "{path} is a pickled torch.nn.modules.container.Sequential, whose code would have to run: "
_RESAVED = "if you trust it, `x = torch.load('{{path}}', weights_only=False); torch.save({}, 'weights.pt')`"
FILES: dict[str, tuple[Any, str]] = {
    "missing": (lambda path: None, "cannot read {path}: No such file"),
    "folder": (lambda path: path.mkdir(), "{path} is a folder: give the file of the weights"),
    "empty": (lambda path: path.write_bytes(b""), "{path} is empty"),
    "html": (lambda path: path.write_text("\n <!DOCTYPE html><html>Google Drive"), "{path} is a web page, not a check"),
    "lfs": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "noise": (lambda path: path.write_bytes(bytes(range(256)) * 9), "{path} is no checkpoint that torch.save wrote"),
    "text": (lambda path: path.write_text("hello"), "{path} is no checkpoint that torch.save wrote"),
    "npz": (_zip, "{path} is no checkpoint that torch.save wrote"),
    "script": (_script, "{path} is a TorchScript program, not weights"),
    "trap": (lambda path: torch.save({"a": _Trap(path.parent / "sprung")}, path), "{path} holds Python objects ("),
    "method": (
        lambda path: torch.save({"model": STATE, "a": _TouchingByMethod(path.parent / "sprung")}, path),
        "{path} holds Python objects that cannot be read without running their code: "
        + _RESAVED.format("x['state_dict']"),
    ),
    "whole model": (lambda path: torch.save(make_net(), path), _PICKLED + _RESAVED.format("x.state_dict()")),
    "model within": (
        lambda path: torch.save({"model": make_net()}, path),
        "no weights among it; 'model' is a" + _PICKLED[11:] + _RESAVED.format("x['model'].state_dict()"),
    ),
    "arguments": (lambda path: torch.save({"args": argparse.Namespace()}, path), "{path} holds args, and no weights"),
    "protocol 4": (
        lambda path: torch.save(STATE, path, pickle_protocol=4),
        "cannot be read without running their code",
    ),
    "slots": (
        lambda path: torch.save({"model": STATE, "a": _Slots()}, path),
        "{path} holds Python objects that cannot",
    ),
    "tensor": (lambda path: torch.save(torch.zeros(3), path), "{path} holds a Tensor, not weights by name"),
    "list": (lambda path: torch.save([STATE], path), "{path} holds a list, not weights by name"),
    "counters": (lambda path: torch.save({"epoch": 1, "lr": 0.1}, path), "{path} holds epoch, lr, and no weights"),
    "nothing": (lambda path: torch.save({}, path), "{path} holds nothing, and no weights"),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_that_hold_no_weights(kind: str, tmp_path: Path) -> None:
    write, line = FILES[kind]
    path = tmp_path / "a.pt"
    write(path)
    with pytest.raises(UsageError) as error:
        read_weights(path)
    assert line.format(path=path) in str(error.value)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_cut_short_anywhere(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".pt":
        torch.save(STATE, path)
    else:
        safetensors.torch.save_file(STATE, path)
    content = path.read_bytes()
    for share in range(1, 10):
        path.write_bytes(content[: len(content) * share // 10])
        with pytest.raises(UsageError, match=r"is no .*, or is cut short"):
            read_weights(path)


def test_the_old_format_of_torch_is_read_too(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "a.pth").tensors.keys() == STATE.keys()
