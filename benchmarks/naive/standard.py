"""Standard training: `main.py` of kuangliu/pytorch-cifar, the script that most repositories of the field began as.

Two workers; `.item()` of the loss and of the number of hits in every step.
"""

from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.naive.images import Images, PilImages, batches

PASSES = (1, 1, 1)
HALF = False


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
) -> Iterator[None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    criterion = nn.CrossEntropyLoss()
    total_loss, hits = 0.0, 0
    model.train()
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        logits = model(x)
        loss = criterion(logits, y)
        loss.backward()
        optimizer.step()
        total_loss += loss.item()
        hits += logits.max(1)[1].eq(y).sum().item()
        yield
