"""Naive twin of `standard`: no adversary."""

import torch
import torch.nn as nn

SETTINGS = {}
PASSES = (1, 1, 1)  # forward, to inputs, to weights; per update at the defaults


def train(model, batches, *, eps, lr, momentum, weight_decay, norm="linf"):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    criterion = nn.CrossEntropyLoss()
    model.train()
    for x, y, _ in batches:
        loss = criterion(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
