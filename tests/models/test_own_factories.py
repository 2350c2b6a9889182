"""Own models: both spellings, what a factory is given, and one golden line for everything that can be wrong."""

import sys

import pytest
import torch
from torch import nn

from fatbench.errors import UsageError
from fatbench.models.classifier import RETURN_LOGITS
from tests.models.test_catalogue import build

GOOD = """
import torch
from torch import nn

def make(num_classes, in_channels, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size * image_size, num_classes))

def only_classes(num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))

def everything(**arguments):
    net = make(**arguments)
    net.arguments = arguments
    return net

def not_by_name(num_classes, /, in_channels=1):
    return None

class Net(nn.Module):
    def __init__(self, num_classes=10, width=3):
        super().__init__()
        self.inner = nn.Linear(64, num_classes)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.frozen = nn.Dropout().eval()
        self.modes = []

    def forward(self, x):
        self.calls += 1
        self.modes.append({module.training for module in self.modules()})
        return nn.functional.dropout(self.inner(x.flatten(1)), training=True)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def _write(source, name="own.py"):
        (tmp_path / name).write_text(source)

    return _write


def error(name, **arguments):
    with pytest.raises(UsageError) as caught:
        build(name, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("factory", ["make", "only_classes", "everything", "Net"])
def test_from_a_file(write, factory):
    write(GOOD)
    model = build(f"own.py:{factory}", num_classes=7)
    assert model(torch.rand(3, 1, 8, 8)).shape == (3, 7)


def test_from_a_module(write, tmp_path, monkeypatch):
    write(GOOD, "own_models_for_fatbench.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert build("own_models_for_fatbench:make")(torch.rand(3, 1, 8, 8)).shape == (3, 10)
    sys.modules.pop("own_models_for_fatbench")


def test_from_an_absolute_path(write, tmp_path):
    write(GOOD)
    assert build(f"{tmp_path}/own.py:make")(torch.rand(3, 1, 8, 8)).shape == (3, 10)


def test_a_factory_with_keywords_gets_all_three(write):
    write(GOOD)
    assert build("own.py:everything").net.arguments == {"num_classes": 10, "in_channels": 1, "image_size": 8}


def test_image_size_is_a_pair_when_the_sides_differ(write):
    write("from torch import nn\ndef make(image_size, num_classes):\n    assert image_size == (8, 4)\n"
          "    return nn.Sequential(nn.Flatten(), nn.Linear(32, num_classes))")  # fmt: skip
    build("own.py:make", shape=(1, 8, 4))


def test_the_check_leaves_no_trace(write):
    write(GOOD)
    torch.manual_seed(5)
    model = build("own.py:Net")
    after = torch.rand(3)
    torch.manual_seed(5)
    nn.Linear(64, 10)
    assert torch.equal(after, torch.rand(3))
    assert int(model.net.calls) == 0
    assert model.net.modes == [{False}, {True}]
    assert model.net.training
    assert not model.net.frozen.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_unknown_name():
    assert error("resnet81") == (
        "no model 'resnet81': there are small-cnn, resnet18, preact-resnet18, resnet50, wrn-28-10, wrn-34-10, "
        "or package.module:factory, or path/to/file.py:factory"
    )


def test_no_such_thing(write):
    write(GOOD)
    assert error("own.py") == "own.py names no factory: write own.py:factory"
    assert error("own.py:") == "'own.py:' names no factory: write package.module:factory, or path/to/file.py:factory"
    assert error("gone.py:make") == "no model file gone.py"
    assert error("own.py:mike") == (
        "own.py has no factory 'mike'; it has make, only_classes, everything, not_by_name, Net"
    )
    assert error("math:pi").startswith("math has no factory 'pi'; it has")
    remedy = "install it, put its folder on PYTHONPATH, or give path/to/file.py:factory"
    assert error("no_such_package.models:make") == f"no module 'no_such_package': {remedy}"
    assert error("json.no_such_part:make") == f"no module 'json.no_such_part': {remedy}"


@pytest.mark.parametrize(
    "name", [".:make", "..own:make", "a b:make", "a/b:make", ":", "::", "os.:make", "\0:x", ".py:f"]
)
def test_odd_names_are_one_line_too(name):
    assert error(name)


def test_code_that_does_not_import(write):
    write("import no_such_dependency")
    assert error("own.py:make") == ("own.py fails to import: ModuleNotFoundError: No module named 'no_such_dependency'")
    assert "fatbench_model_own" not in sys.modules
    write("def make(:\n", "broken.py")
    assert error("broken.py:make").startswith("broken.py fails to import: SyntaxError: ")
    write("import sys; sys.exit(3)", "leaving.py")
    assert error("leaving.py:make") == "leaving.py fails to import: SystemExit: 3"


def test_a_package_that_lacks_a_dependency(write, tmp_path, monkeypatch):
    write("import no_such_dependency", "lacking_for_fatbench.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert error("lacking_for_fatbench:make") == (
        "lacking_for_fatbench fails to import: ModuleNotFoundError: No module named 'no_such_dependency'"
    )


BAD = """
import torch
from torch import nn

def raising(num_classes):
    raise ValueError("first line\\nsecond line")

def nothing(num_classes):
    pass

def needy(num_classes, width):
    pass

def fixed():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))

def flat(num_classes):
    return nn.Flatten(0)

class Returning(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make, self.weight = make, nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.make(x)

def pair():
    return Returning(lambda x: (x, x))

def scores():
    return Returning(lambda x: {"scores": x})

def late(num_classes):
    net = Returning(lambda x: None if net.training else x.new_zeros(2, num_classes))
    return net

def maps(num_classes):
    return Returning(lambda x: x.new_zeros(2, num_classes, 1, 1))

def integers():
    return Returning(lambda x: torch.zeros(2, 10, dtype=torch.int64))

def infinite():
    return Returning(lambda x: torch.full((2, 10), float("inf")))

def failing():
    return nn.Conv2d(4, 4, 3)

def untrainable(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes)).requires_grad_(False)
"""
_LOGITS = "expected floating-point logits of shape (2, 10)"
_LAST, _ALONE = f"{_LOGITS}: give its last layer num_classes outputs", f"{_LOGITS}: {RETURN_LOGITS}"
_TAKES = "a factory may take num_classes, in_channels (in_chans) and image_size (img_size)"


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (
            "raising",
            f"raised ValueError: first line second line; {_TAKES}",
        ),
        (
            "needy",
            "raised TypeError: needy() missing 1 required positional argument: 'width'; " + _TAKES,
        ),
        ("nothing", "returned a NoneType: a factory returns a torch.nn.Module"),
        ("fixed", f"maps 2 images of 1x8x8 to float32 of shape (2, 5), {_LAST}"),
        ("flat", f"maps 2 images of 1x8x8 to float32 of shape (128,), {_LAST}"),
        ("integers", f"maps 2 images of 1x8x8 to int64 of shape (2, 10), {_LAST}"),
        ("pair", f"maps 2 images of 1x8x8 to float32 of shape (2, 1, 8, 8) (the first element of its tuple), {_ALONE}"),
        ("scores", f": the network returned a dict of scores, not one tensor of logits: {RETURN_LOGITS}"),
        ("late", f" in train mode: the network returned a NoneType, not one tensor of logits: {RETURN_LOGITS}"),
        ("maps", f"maps 2 images of 1x8x8 to float32 of shape (2, 10, 1, 1), {_LOGITS}: end it with nn.Flatten()"),
        ("infinite", "maps 2 images of 1x8x8, all black, to logits that are not finite: check its initialisation"),
        ("untrainable", "has nothing to train: none of its parameters requires a gradient"),
    ],
)
def test_factories_that_break_the_contract(write, factory, message):
    write(BAD)
    assert error(f"own.py:{factory}") == f"own.py:{factory}{' ' * message[0].isalpha()}{message}"


def test_a_network_that_fails_on_the_images(write):
    write(BAD)
    line = error("own.py:failing")
    assert line.startswith("own.py:failing fails on 2 images of 1x8x8: RuntimeError: ")
    assert f"to have 4 channels, but got 1 channels instead; {_TAKES}" in line
