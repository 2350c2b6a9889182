"""TRADES: `trades.py` and `train_trades_cifar10.py` of yaodongyu/TRADES (Zhang et al., 2019), 10 steps.

One worker on a GPU; none on a CPU, where images are transformed between updates. Noise is drawn on the CPU. Every
attack step runs the clean images again, with a graph for the weights that is not used; the loss runs them twice in
train mode and differentiates through both: 23 forwards, 39 passes. The loss is read every 100 batches only, for the
log.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.naive.images import Images, PilImages, batches

PASSES = (23, 13, 3)
HALF = False
LOG_INTERVAL = 100  # batches


def loader(images: Images, device: torch.device) -> DataLoader:
    return batches(PilImages(images), images, device, workers=1 if device.type == "cuda" else 0)


def trades_loss(
    model: nn.Module, x: Tensor, y: Tensor, *, eps: float, alpha: float, noise: float, steps: int, beta: float
) -> Tensor:
    """Return the loss to differentiate, the model in train mode."""
    divergence = nn.KLDivLoss(reduction="sum")
    model.eval()
    x_adv = x.detach() + noise * torch.randn(x.shape).to(x.device)
    for _ in range(steps):
        x_adv.requires_grad_()
        difference = divergence(F.log_softmax(model(x_adv), dim=1), F.softmax(model(x), dim=1))
        gradient = torch.autograd.grad(difference, [x_adv])[0]
        x_adv = x_adv.detach() + alpha * torch.sign(gradient.detach())
        x_adv = torch.min(torch.max(x_adv, x - eps), x + eps)
        x_adv = torch.clamp(x_adv, 0.0, 1.0)
    model.train()
    natural = F.cross_entropy(model(x), y)
    robust = divergence(F.log_softmax(model(x_adv), dim=1), F.softmax(model(x), dim=1)) / len(x)
    return natural + beta * robust


def train(
    model: nn.Module,
    loader: DataLoader,
    device: torch.device,
    *,
    eps: float,
    lr: float,
    momentum: float,
    weight_decay: float,
    steps: int = 10,
    alpha: float = 0.2258,
    beta: float = 6.0,
    noise: float = 0.0323,
) -> Iterator[None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    log = []
    model.train()
    for index, (x, y) in enumerate(loader):
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        loss = trades_loss(model, x, y, eps=eps, alpha=alpha * eps, noise=noise * eps, steps=steps, beta=beta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if index % LOG_INTERVAL == 0:
            log.append(loss.item())
        yield
