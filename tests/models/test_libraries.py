"""Networks of other libraries: torchvision's factories, and timm's conventions in a module that stands in for it."""

import re
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from fatbench.errors import UsageError
from tests.models.test_catalogue import build

TORCHVISION = "torchvision.models"
GREY = "takes three channels: it is given each grey image as three equal ones"
# As timm's: a registry of names, factories that pass keyword arguments on, classes that refuse what they do not know.
TIMM_LIKE = """
from torch import nn

class Plain(nn.Sequential):
    def __init__(self, num_classes=1000, in_chans=3, **kwargs):
        if kwargs:
            raise TypeError(f"Plain got unexpected keyword argument(s): {sorted(kwargs)}")
        super().__init__(nn.Conv2d(in_chans, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))

class Patches(nn.Sequential):
    def __init__(self, num_classes=1000, in_chans=3, img_size=224):
        assert img_size % 8 == 0, "not divisible"
        cells = (img_size // 8) ** 2
        super().__init__(nn.Conv2d(in_chans, 4, 8, 8), nn.Flatten(), nn.Linear(4 * cells, num_classes))

def plain(pretrained=True, **kwargs):
    assert not pretrained
    return Plain(**kwargs)

def patches(pretrained=False, **kwargs):
    return Patches(**kwargs)

def create_model(model_name, pretrained=False, num_classes=None, **kwargs):
    if model_name not in ("plain", "patches", "plain.tag_in1k"):
        raise RuntimeError(f"Unknown model ({model_name})")
    make = patches if model_name == "patches" else plain
    return make(pretrained=pretrained, num_classes=num_classes, **kwargs)
"""


@pytest.fixture
def timm_like(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "timm_like.py").write_text(
        TIMM_LIKE.replace("def plain(", "def plain_net(").replace("else plain\n", "else plain_net\n")
    )
    yield "timm_like"
    sys.modules.pop("timm_like", None)


def refused(name, **arguments):
    with pytest.raises(UsageError) as caught:
        build(name, **arguments)
    assert "..." not in str(caught.value)  # it is said in full
    return str(caught.value)


def test_a_network_of_torchvision_is_the_one_that_torchvision_makes():
    torch.manual_seed(1)
    model = build(f"{TORCHVISION}:resnet18", num_classes=7, shape=(3, 32, 32)).eval()
    torch.manual_seed(1)
    theirs = torchvision.models.resnet18(num_classes=7).eval()
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(model(x), theirs((x - 0.4) / 0.3))
    assert model.notes == ()


def test_a_grey_image_is_given_as_three_equal_channels_to_a_network_that_takes_no_fewer():
    torch.manual_seed(1)
    model = build(f"{TORCHVISION}:shufflenet_v2_x0_5").eval()
    torch.manual_seed(1)
    theirs = torchvision.models.shufflenet_v2_x0_5(num_classes=10).eval()
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(model(x), theirs((x.repeat(1, 3, 1, 1) - 0.4) / 0.3))
    assert model.notes == (f"{TORCHVISION}:shufflenet_v2_x0_5 {GREY}",)


def test_the_size_of_the_images_reaches_a_transformer():
    assert build(f"{TORCHVISION}:vit_b_32", shape=(3, 64, 64)).net.image_size == 64


def test_in_train_mode_the_logits_of_googlenet_are_taken_before_the_auxiliary_ones():
    model = build(f"{TORCHVISION}:googlenet", shape=(3, 32, 32))
    x = torch.rand(2, 3, 32, 32)
    torch.manual_seed(1)
    logits = model(x)
    torch.manual_seed(1)
    assert torch.equal(logits, model.net(model.normalise(x)).logits)
    assert model.notes == (
        f"{TORCHVISION}:googlenet in train mode: .logits of its GoogLeNetOutputs is taken as the logits",
    )


@pytest.mark.parametrize(
    ("name", "shape", "side"),
    [
        (f"{TORCHVISION}:squeezenet1_1", (1, 8, 8), 32),
        ("timm_like:patches", (1, 10, 10), 16),
        ("timm_like:Patches", (3, 12, 10), 16),
    ],
)
def test_images_too_small_for_a_network_end_in_a_line_of_python_that_works(
    timm_like, name, shape, side, tmp_path, monkeypatch
):
    line = refused(name, shape=shape)
    assert f"; it takes images of {side}x{side}: give --model net.py:make with this line in net.py: `def " in line
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(re.search("`(.*)`", line)[1])
    assert build("net.py:make", num_classes=3, shape=shape)(torch.rand(2, *shape)).shape == (2, 3)


def test_what_fails_otherwise_says_what_a_factory_may_take():
    line = refused(f"{TORCHVISION}:get_model")
    assert "missing 1 required positional argument: 'name'; a factory may take num_classes, in_channels (in_ch" in line
    assert "`def make(num_classes): from torchvision.models import get_model; return get_model(num_classes" in line
    assert f"{TORCHVISION} has no factory 'resnet81'; it has resnet18, " in refused(f"{TORCHVISION}:resnet81")
    assert "(['out'] of its OrderedDict), expected" in refused(
        f"{TORCHVISION}.segmentation:lraspp_mobilenet_v3_large", shape=(3, 32, 32)
    )


@pytest.mark.parametrize("name", ["plain", "plain.tag_in1k", "plain_net", "Plain"])
def test_timms_conventions(timm_like, name):
    model = build(f"{timm_like}:{name}", num_classes=5)
    assert (model.net[0].in_channels, model.net[-1].out_features, model.notes) == (1, 5, ())


def test_timms_name_of_the_size(timm_like):
    assert build(f"{timm_like}:patches", shape=(3, 16, 16)).net[-1].in_features == 16


def test_a_name_that_timm_does_not_know(timm_like):
    assert "raised RuntimeError: Unknown model (plane); a factory" in refused(f"{timm_like}:plane")
    assert refused(f"{timm_like}:create_model") == (
        "timm_like:create_model makes models by name: write timm_like:NAME, as timm_like:resnet18"
    )


def test_pretrained_weights_are_declined(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(
        "from torch import nn\ndef make(num_classes, weights='BEST', pretrained=True, weights_backbone='BEST'):\n"
        "    assert not (weights or pretrained or weights_backbone)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
        "def create_model(num_classes): return make(num_classes, None, False, None)\n"
    )
    build("own.py:make")
    build("own.py:create_model")  # which is no registry of names
