"""FGSM-RS: `CIFAR10/train_fgsm.py` of locuslab/fast_adversarial (Wong et al., 2020), --delta-init random.

Two workers. The radius is a tensor with an entry per channel, read back to the host for every channel's noise. The
attack calls `loss.backward()`, so weight gradients are computed there and thrown away. In every step, `.item()` of loss
and hits, and a cyclic schedule that moves rate and momentum. The script trains in float16 (apex O2, no master weights).
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.naive.images import Images, PilImages, batches

PASSES = (2, 2, 2)
HALF = True
HALF_CYCLE = 10**6  # steps


def loader(images: Images, device: torch.device) -> DataLoader:
    return batches(PilImages(images), images, device, workers=2)


def clamp(x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    return torch.max(torch.min(x, upper), lower)


def train(
    model: nn.Module,
    loader: DataLoader,
    device: torch.device,
    *,
    eps: float,
    lr: float,
    momentum: float,
    weight_decay: float,
    alpha: float = 1.25,
    start: str = "random",
) -> Iterator[None]:
    channels = loader.dataset[0][0].shape[0]
    epsilon, black, white = (torch.full((channels, 1, 1), value, device=device) for value in (eps, 0.0, 1.0))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CyclicLR(optimizer, base_lr=0.0, max_lr=lr, step_size_up=HALF_CYCLE)
    total_loss, hits = 0.0, 0
    model.train()
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        delta = torch.zeros_like(x)
        if start == "random":
            for channel in range(channels):
                radius = epsilon[channel][0][0]
                delta[:, channel].uniform_(-radius.item(), radius.item())
            delta.data = clamp(delta, black - x, white - x)
        delta.requires_grad = True
        F.cross_entropy(model(x + delta), y).backward()
        gradient = delta.grad.detach()
        delta.data = clamp(delta + alpha * epsilon * torch.sign(gradient), -epsilon, epsilon)
        delta.data = clamp(delta, black - x, white - x)

        logits = model(x + delta.detach())
        loss = F.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total_loss += loss.item() * len(y)
        hits += (logits.max(1)[1] == y).sum().item()
        schedule.step()
        yield
