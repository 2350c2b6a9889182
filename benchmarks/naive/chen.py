"""The training loop that the scripts of jinghuichen/BackwardSmoothing share (Chen et al., AAAI 2022).

Two workers; the loss is read twice in every step, for the sum and for the progress bar; a MultiStepLR steps with it.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.naive.images import Images, PilImages, batches

MILESTONES = [10**6, 2 * 10**6]  # steps


def loader(images: Images, device: torch.device) -> DataLoader:
    return batches(PilImages(images), images, device, workers=2)


def divergence(target: Tensor, logits: Tensor) -> Tensor:
    """Return the mean KL divergence of the softmax of `logits` from the distributions `target`."""
    return (1.0 / len(logits)) * nn.KLDivLoss(reduction="sum")(F.log_softmax(logits, dim=1), target)


def step(x_adv: Tensor, gradient: Tensor, x: Tensor, eps: float, alpha: float) -> Tensor:
    x_adv = x_adv.detach() + alpha * torch.sign(gradient.detach())
    x_adv = torch.min(torch.max(x_adv, x - eps), x + eps)
    return torch.clamp(x_adv, 0.0, 1.0)


def loss_of(model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor, beta: float) -> Tensor:
    """Return the loss of TRADES in train mode, the clean output computed once."""
    model.train()
    x_adv = torch.clamp(x_adv, 0.0, 1.0).detach()
    logits = model(x)
    natural = F.cross_entropy(logits, y)
    return natural + beta * divergence(F.softmax(logits, dim=1), model(x_adv))


def progress_bar(*_shown: float) -> None:
    """Draw nothing: that the numbers had to come from the device is what costs time."""


def train(
    attack: Callable[[nn.Module, Tensor], Tensor],
    model: nn.Module,
    loader: DataLoader,
    device: torch.device,
    *,
    beta: float,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> Iterator[None]:
    """Train on what `attack(model, x)` returns, the model in eval mode for it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=MILESTONES, gamma=0.1)
    total = 0.0
    model.train()
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        model.eval()
        x_adv = attack(model, x)
        optimizer.zero_grad()
        loss = loss_of(model, x, y, x_adv, beta)
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
        progress_bar(loss.item(), total)
        yield
