import subprocess
import sys

import pytest
import torch

from fatbench import models
from fatbench.errors import UsageError


def build(name, num_classes=10, shape=(1, 8, 8), precision="fp32"):
    channels = shape[0]
    return models.build(
        name, num_classes=num_classes, shape=shape, mean=[0.4] * channels, std=[0.3] * channels, precision=precision
    )


def test_listing_imports_no_torch():
    code = (
        "import sys; from fatbench import data, models;"
        "print([f(n) for m in (data, models) for n in m.names() for f in (m.describe,)]);"
        "assert not {'torch', 'torchvision', 'sklearn', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_descriptions_are_single_lines():
    assert models.names() == ["small-cnn", "resnet18", "preact-resnet18", "resnet50", "wrn-28-10", "wrn-34-10"]
    for name in models.names():
        line = models.describe(name)
        assert line
        assert "\n" not in line
        assert len(line) < 100


def test_describe_unknown():
    with pytest.raises(UsageError, match=r"^no model 'vgg': there are small-cnn, .*wrn-34-10, or package"):
        models.describe("vgg")


@pytest.mark.parametrize("name", ["small-cnn", "resnet18", "preact-resnet18"])
def test_fresh_weights_depend_on_the_global_seed_alone(name):
    torch.manual_seed(3)
    first = build(name)
    torch.rand(7)
    torch.manual_seed(3)
    second = build(name)
    torch.manual_seed(4)
    third = build(name)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key
    weight = next(key for key, value in first.state_dict().items() if value.ndim == 4 and "net" in key)
    assert not torch.equal(first.state_dict()[weight], third.state_dict()[weight])


def test_build_returns_a_training_model_on_the_cpu_without_gradients():
    model = build("small-cnn")
    assert model.training
    assert all(module.training for module in model.modules())
    assert all(p.grad is None and p.device.type == "cpu" for p in model.parameters())
    batches = [buffer for name, buffer in model.named_buffers() if name.endswith("num_batches_tracked")]
    assert len(batches) == 3
    assert all(int(count) == 0 for count in batches)
