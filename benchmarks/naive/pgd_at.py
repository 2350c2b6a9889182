"""PGD-AT: `train_cifar.py` of locuslab/robust_overfitting (Rice et al., 2020), --attack pgd, 10 steps.

Two workers, images cropped as arrays rather than by PIL. The attack calls `loss.backward()`, so weight gradients are
computed in every step; after it, one more forward finds each image's loss, for a choice among restarts, of which
there is one. After the update, a forward of the clean images for the log, in train mode, its graph unused; `.item()`
of two losses and two numbers of hits. 13 forwards and 11 full backwards are 35 passes: 33 that train, and the two
forwards that look.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.naive.images import CroppedArrays, Images, batches

PASSES = (13, 11, 11)
HALF = False


def loader(images: Images, device: torch.device) -> DataLoader:
    return batches(CroppedArrays(images), images, device, workers=2)


def clamp(x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    return torch.max(torch.min(x, upper), lower)


def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float, alpha: float, steps: int) -> Tensor:
    """Return the perturbation, the worst of one restart."""
    worst_loss, worst = torch.zeros(len(y), device=x.device), torch.zeros_like(x)
    delta = clamp(torch.zeros_like(x).uniform_(-eps, eps), 0 - x, 1 - x)
    delta.requires_grad = True
    for _ in range(steps):
        F.cross_entropy(model(x + delta), y).backward()
        moved = torch.clamp(delta.detach() + alpha * torch.sign(delta.grad.detach()), min=-eps, max=eps)
        delta.data = clamp(moved, 0 - x, 1 - x)
        delta.grad.zero_()
    losses = F.cross_entropy(model(x + delta), y, reduction="none")
    worse = losses >= worst_loss
    worst[worse] = delta.detach()[worse]
    return worst


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
    alpha: float = 0.25,
) -> Iterator[None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    criterion = nn.CrossEntropyLoss()
    robust_total, clean_total, robust_hits, clean_hits = 0.0, 0.0, 0, 0
    model.train()
    for x, y in loader:
        x, y = x.to(device).float(), y.to(device).long()
        delta = attack(model, x, y, eps, alpha * eps, steps)
        robust_logits = model(torch.clamp(x + delta, min=0, max=1))
        robust_loss = criterion(robust_logits, y)
        optimizer.zero_grad()
        robust_loss.backward()
        optimizer.step()

        clean_logits = model(x)
        clean_loss = criterion(clean_logits, y)
        robust_total += robust_loss.item() * len(y)
        robust_hits += (robust_logits.max(1)[1] == y).sum().item()
        clean_total += clean_loss.item() * len(y)
        clean_hits += (clean_logits.max(1)[1] == y).sum().item()
        yield
