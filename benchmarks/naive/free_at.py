"""Free AT: `CIFAR10/train_free.py` of locuslab/fast_adversarial, Wong et al.'s port of Shafahi et al. (2019).

Two workers. Every replay clamps the carried perturbation to a radius per channel; `.item()` of loss and hits once a
batch, a cyclic schedule in every step. The script trains in float16 (apex O2, no master weights).
"""

from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.naive.fgsm_rs import HALF_CYCLE, clamp
from benchmarks.naive.images import Images, PilImages, batches

PASSES = (1, 1, 1)
HALF = True


def loader(images: Images, device: torch.device) -> DataLoader:
    return batches(PilImages(images), images, device, workers=2)


def train(
    model: nn.Module,
    loader: DataLoader,
    device: torch.device,
    *,
    eps: float,
    lr: float,
    momentum: float,
    weight_decay: float,
    replays: int = 8,
) -> Iterator[None]:
    shape = loader.dataset[0][0].shape
    epsilon, black, white = (torch.full((shape[0], 1, 1), value, device=device) for value in (eps, 0.0, 1.0))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CyclicLR(optimizer, base_lr=0.0, max_lr=lr, step_size_up=HALF_CYCLE)
    criterion = nn.CrossEntropyLoss()
    delta = torch.zeros(loader.batch_size, *shape, device=device, requires_grad=True)
    total_loss, hits = 0.0, 0
    model.train()
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        for _ in range(replays):
            logits = model(x + delta)
            loss = criterion(logits, y)
            optimizer.zero_grad()
            loss.backward()
            gradient = delta.grad.detach()
            delta.data = clamp(delta + epsilon * torch.sign(gradient), -epsilon, epsilon)
            delta.data = clamp(delta, black - x, white - x)
            optimizer.step()
            delta.grad.zero_()
            schedule.step()
        total_loss += loss.item() * len(y)
        hits += (logits.max(1)[1] == y).sum().item()
        yield
