"""The images that stand by the least, where one can say who they are."""

import pytest
import torch
from torch import Tensor, nn

from fatbench.evaluation.autoattack.low_margin import lowest_margins
from fatbench.models.classifier import Classifier
from fatbench.threat import L2, Ball, Linf


def _ladder() -> tuple[Classifier, Tensor, Tensor]:
    """A linear model of two classes, and images that are brighter, and so further from the other class, one by one."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[-1.0] * 9, [1.0] * 9]))  # type: ignore[union-attr,operator]
        net[1].bias.copy_(torch.tensor([4.5, -4.5]))  # type: ignore[union-attr,operator]
    brightness = torch.tensor([0.9, 0.6, 0.8, 0.55, 0.7])
    return (
        Classifier(net, [0.0], [1.0]),
        brightness[:, None, None, None].expand(5, 1, 3, 3).clone(),
        torch.ones(5).long(),
    )


@pytest.mark.parametrize("ball", [Linf(0.02), L2(0.05)])
@pytest.mark.parametrize(("share", "rows"), [(0.01, [3]), (0.4, [3, 1]), (1.0, [3, 1, 4, 2, 0])])
def test_the_nearest_to_the_boundary_come_first(ball: Ball, share: float, rows: list[int]) -> None:
    model, x, y = _ladder()
    assert lowest_margins(model, x, y, ball, share).tolist() == rows


def test_of_no_image_there_is_none() -> None:
    model, x, y = _ladder()
    assert lowest_margins(model, x[:0], y[:0], Linf(0.1), 0.5).tolist() == []
