"""A small method that keeps the contract, and changes to it that each break one part."""

import re

from fatbench import methods

HEAD = """
import random, time, torch
import torch.nn.functional as F
from fatbench.ops import evaluating, input_gradient
seen = []
"""
BODY = '''PASSES = {"forward": "steps + 1", "inputs": 2, "weights": 1, "batch_norm": 2}

def mutant(model, batch, ctx, *, alpha: float = 1.0, steps: int = 1):
    """A method that keeps the contract (Nobody, NOWHERE 2020).

    Args:
        alpha: step size, in units of eps.
        steps: forwards of the attack.

    Differences: none.
    """
    x, y, ids = batch
    delta = ctx.buffer("delta", like=x)
    start = ctx.ball.project(x + ctx.ball.sample(x) + delta, x)
    gradient = input_gradient(lambda z: F.cross_entropy(model(z), y, reduction="sum"), start)
    # before
    x_adv = ctx.ball.step(start, gradient, alpha, x)
    loss = F.cross_entropy(model(x_adv), y, label_smoothing=ctx.smoothing)
    # between
    yield loss
    # after
    delta.copy_(x_adv - x)
'''

BEFORE, BETWEEN, AFTER = "    # before\n", "    # between\n", "    # after\n"
# the check that must fail, what is put in place of what, what is said of it
MUTANTS = [
    ("runs", ("    yield loss\n", "    if False: yield loss\n"), "it yields no loss for batch 0"),
    ("runs", ("    yield loss\n", "    if ctx.step == 0: yield loss\n"), "it yields no loss for batch 1"),
    ("runs", ("    yield loss\n", "    while True: yield model(x).mean()\n"), "given up after 201 losses"),
    ("runs", ("yield loss", "yield loss.item()"), "it yields float, not a tensor"),
    ("runs", ("yield loss", "yield model(x_adv)"), "it yields a tensor of shape (6, 3)"),
    ("runs", ("yield loss", "yield loss.detach()"), "a loss without a graph"),
    ("runs", (BEFORE, "    1 / 0\n"), "ZeroDivisionError at mutant.py:21: division by zero"),
    ("runs", (BEFORE, "    raise SystemExit(3)\n"), "SystemExit at mutant.py:21: 3"),
    ("losses", ("yield loss", "yield loss / (ctx.step * 0)"), "loss number 0 is inf"),
    ("losses", ("yield loss", "yield next(model.parameters()).square().mean()"), "has no gradient for net.0.bias"),
    ("ball and box", ("gradient, alpha, x)", "gradient, alpha, start)"), "eps away: project them, or declare REACH"),
    ("ball and box", ("ctx.ball.step(start, gradient, alpha, x)", "x + 0.01"), "outside [0, 1]: project them"),
    ("ball and box", ("ctx.ball.project(x + ctx.ball.sample(x) + delta, x)", "x + 0.1"),
     "its attack shows the model"),
    ("modes", (BETWEEN, "    model.eval()\n"), "is in another mode at a yield"),
    ("modes", ("    delta.copy_", "    model.eval()\n    delta.copy_"), "is in another mode at"),
    ("modes", (BEFORE, "    model.eval(); model(x); model.train()\n"), "is in another mode at a yield"),
    ("modes", (BETWEEN, "    for m in model.modules(): m.momentum = 0.2\n"), "is in another mode at a yield"),
    ("weights and gradients", (BEFORE, "    F.cross_entropy(model(x), y).backward()\n"),
     "leaves gradients in the weights"),
    ("weights and gradients", (AFTER, "    model(x).sum().backward()\n"),
     "gradients in the weights after the last yield"),
    ("weights and gradients", (AFTER, "    with torch.no_grad(): next(model.parameters()).mul_(2)\n"),
     "it changes net.0.weight"),
    ("weights and gradients", (AFTER, "    model.requires_grad_(False)\n"), "does not require gradients any more"),
    ("weights and gradients", (AFTER, "    y.data.add_(0)\n"), "it uses .data"),
    ("batch", (BEFORE, "    x.add_(0.001)\n"), "it changes batch.x in place"),
    ("batch", (BEFORE, "    y.fill_(0)\n"), "it changes batch.y in place"),
    ("batch", (AFTER, "    x.requires_grad_()\n"), "it makes batch.x require gradients"),
    ("passes", (BEFORE, "    with torch.no_grad(): model(x)\n"),
     "counted 3 forward, 2 to inputs, 1 to weights; PASSES says"),
    ("passes", ('"steps + 1"', '"a few"'), "not declared, as PASSES"),
    ("batch norm", ('norm": 2', 'norm": 3'), "counted 2 per optimiser step; PASSES says 3"),
    ("batch norm", (BEFORE, "    with torch.no_grad(): model(x)\n"), "counted 3 per optimiser step"),
    ("same seed", (BETWEEN, "    loss = loss * random.SystemRandom().random()\n"),
     "with the same seed 'model "),
    ("same seed", (BEFORE, "    seen.append(1); alpha = alpha / len(seen)\n"), "with the same seed 'model "),
    ("resume", (BEFORE, "    seen.append(1); alpha = alpha / len(seen)\n"), "a resumed training has another 'model "),
    ("resume", (AFTER, "    mutant.last = x_adv\n"), ""),
    ("first loss twice", (BEFORE, "    delta.add_(0.01)\n"), "change buffers after the yield"),
    ("buffers", ("    delta.copy_(x_adv - x)", "    ctx.buffers['delta'] = x_adv - x"),
     "the buffer 'delta' is replaced"),
    ("buffers", (AFTER, "    if seen: ctx.buffer('late', like=x)\n    seen.append(1)\n"),
     "the buffer 'late' comes late"),
    ("buffers", (AFTER, "    ctx.buffers['w'] = model.net[0].weight\n"), "the buffer 'w' has a graph"),
    ("CUDA graph", (BETWEEN, "    loss.item()\n"), "line 24: .item() waits for the device"),
    ("CUDA graph", (BETWEEN, "    loss = loss * random.random()\n"), "line 24: random.random() is drawn on the host"),
    ("CUDA graph", (BETWEEN, "    if ctx.step > 3: loss = 2 * loss\n"),
     "line 24: a branch on ctx.step > 3 would be frozen"),
    ("CUDA graph", (BETWEEN, "    loss = loss + float(x.sum())\n"), "_local_scalar_dense makes the host wait"),
    ("CUDA graph", (BETWEEN, "    x[x > 0.5].sum()\n"), "at mutant.py:24: index makes the host wait"),
    ("CUDA graph", (AFTER, "    delta[delta > 0] = delta[delta > 0]\n"),
     "at mutant.py:26: index makes the host wait"),
    ("CUDA graph", (AFTER, "    delta[delta > 0] = 0.0\n"), ""),
    ("CUDA graph", (AFTER, "    delta[y == 0] = delta.new_ones(8)\n"),
     "at mutant.py:26: index_put_ makes the host wait"),
    ("CUDA graph", (AFTER, "    delta.view(-1)[y] = delta.new_ones(len(y))\n"), ""),
    ("imports", ("    x, y, ids = batch", "    from fatbench import training\n    x, y, ids = batch"),
     "it imports fatbench.training"),
    ("imports", ("    x, y, ids = batch", "    import fatbench.data.digits\n    x, y, ids = batch"),
     "fatbench.data.digits"),
    ("bf16", (BEFORE, "    assert model.precision == 'fp32'\n"), "at mutant.py:21"),
    ("bf16", (BETWEEN, "    loss = loss / (0.0 if model.precision == 'bf16' else 1.0)\n"),
     "with bf16 loss number 0 is [inf]"),
    ("channels-last", (BEFORE, "    gradient.view(-1)\n"), "RuntimeError at mutant.py:21"),
    ("odd batches", (BEFORE, "    gradient.view(2, len(x) // 2, *x.shape[1:])\n"), "RuntimeError at mutant.py:21"),
    ("two classes", ("ids = batch\n", "ids = batch\n    y = 1 - y if model(x).shape[1] == 2 else y\n"),
     "0% of the clean images are right"),
    ("two classes", (BETWEEN, "    loss = 0 * loss if ctx.step > 2 else -loss\n"), "of the clean images are right"),
    ("two classes", (BEFORE, "    model(x).topk(3)\n"), "RuntimeError at mutant.py:21"),
    ("channels", (BEFORE, "    gradient.view(len(x), 64)\n"), "RuntimeError at mutant.py:21"),
    ("augmentation", (BEFORE, "    assert ctx.crop_flip.flip is None\n"), "AssertionError at mutant.py:21"),
    ("docstring", ("    Differences: none.\n", ""), "the docstring lacks 'Differences: ...'"),
    ("docstring", ("        alpha: step size, in units of eps.\n", ""), "lacks the meaning of alpha in Args"),
]  # fmt: skip

# what makes the host wait, by the operator that is named for it: one line each
WAITS = {
    "_local_scalar_dense": "torch.is_nonzero(x.sum())",
    "equal": "torch.equal(x, x_adv)",
    "allclose": "torch.allclose(x, x_adv)",
    "masked_select": "x.masked_select(x > 0.5)",
    "_unique2": "y.unique()",
    "unique_dim": "y.unique(dim=0)",
    "unique_consecutive": "y.unique_consecutive()",
    "bincount": "y.bincount(minlength=9)",
    "histc": "x.histc(10)",
    "repeat_interleave": "x.repeat_interleave(y, dim=0)",
    "_to_sparse": "x.to_sparse()",
    "_linalg_svd": "torch.linalg.matrix_norm(x, 'nuc')",
    "_linalg_eigh": "torch.linalg.eigvalsh(x)",
    "linalg_eig": "torch.linalg.eig(x)",
    "linalg_lstsq": "torch.linalg.lstsq(x, x)",
    "linalg_pinv": "torch.linalg.pinv(x)",
    "linalg_matrix_exp": "torch.linalg.matrix_exp(x)",
    "_linalg_check_errors": "torch.linalg.inv(x + 9 * torch.eye(8))",
    "multinomial": "model(x).softmax(1).multinomial(1)",
}
MUTANTS += [
    ("CUDA graph", (BETWEEN, f"    {line}\n"), f"at mutant.py:24: {name} makes the host wait")
    for name, line in WAITS.items()
]
# the same without waiting: what the host would ask for is given to it, or nobody checks
MUTANTS += [
    ("CUDA graph", (BETWEEN, f"    {line}\n"), "")
    for line in (
        "x.histc(10, 0, 1)",
        "x.histc(10, max=1)",
        "x.repeat_interleave(2, dim=0)",
        "x.repeat_interleave(torch.ones_like(y), dim=0, output_size=len(y))",
        "torch.linalg.inv_ex(x)",
        "(x == x_adv).all()",
    )
]


def undeclared(name: str, constant: str) -> str:
    """Return the source of a method of fatbench without what it declares by a constant."""
    source, count = re.subn(rf"^{constant} = .*\n", "", methods.describe(name).source, flags=re.MULTILINE)
    assert count == 1
    return source
