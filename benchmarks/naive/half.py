"""Float16 as the scripts of fast_adversarial train: apex O2 without master weights, at a loss scale of 1."""

from torch import Tensor, nn

from fatbench.models.classifier import Classifier


class ToHalf(nn.Module):
    """Casts the images; the classifier itself casts the logits back."""

    def forward(self, x: Tensor) -> Tensor:
        return x.half()


def in_half(model: Classifier) -> Classifier:
    """Return `model` with its network's weights and activations in float16, batch norm's own tensors in float32."""
    model.net.half()
    for module in model.net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.float()
    model.net = nn.Sequential(ToHalf(), model.net)
    return model
