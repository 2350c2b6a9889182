"""Gradient masking: signs that a model only looks robust because gradients lead attacks nowhere.

The signs are those of Athalye, Carlini & Wagner (ICML 2018, section 3.1) and of AutoAttack's own alarms, each with a
bound that honest models keep. A sign on few images may be chance: its share must exceed the bound by more than the 95%
Wilson interval allows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from scipy.stats import binomtest
from torch import Tensor

from fatbench.config.parsing import PGD, attack_strength, parse_evaluation
from fatbench.data.loader import to_float
from fatbench.evaluation.attacks import is_correct, loss_gradient, survives_fgsm
from fatbench.evaluation.eval_mode import eval_mode, isolated_rng
from fatbench.evaluation.eval_result import EvalResult
from fatbench.evaluation.evaluator import ATTACK_SEED, Evaluator
from fatbench.evaluation.microbatch import in_chunks
from fatbench.models.classifier import Classifier
from fatbench.record.parts import Masking
from fatbench.statistics import wilson
from fatbench.threat import Ball

_GAP = 0.20  # of the images: broken by AutoAttack though PGD did not; honest models on digits reach 0.155, n = 200
_GAP_OF_HALF = 0.05  # likewise, where AutoAttack leaves less than half of what PGD left
_SQUARE = 0.002  # of the images: broken by Square though no gradient attack did; AutoAttack's own alarm
_LOST = 0.01  # of the images that are classified correctly: their gradient is exactly zero, or not finite
_CHANCE = 0.01  # that random noise would beat FGSM so clearly by accident


@dataclass(frozen=True)
class Signs:
    """What was looked at, image by image: (n,) bool each, on the CPU."""

    clean: Tensor  # classified correctly
    noise: Tensor  # still right under one draw of random noise from the ball
    fgsm: Tensor  # still right after one step of eps
    lost: Tensor  # classified correctly, and the gradient of the cross-entropy is zero, or not finite: no way to go


def look_for_signs(evaluator: Evaluator, model: Classifier) -> Signs:
    """Return the signs on the evaluator's images; model and random generators stay as they were."""
    found: list[Tensor] = []
    with eval_mode(model), isolated_rng(ATTACK_SEED, evaluator.x.device):
        for first in range(0, len(evaluator.x), evaluator.batch_size):
            x, y = (
                to_float(evaluator.x[first : first + evaluator.batch_size]),
                evaluator.y[first : first + evaluator.batch_size],
            )
            found.append(evaluator.microbatch.run(len(y), partial(_look, evaluator.ball, model, x, y)))
    return Signs(*torch.cat(found).cpu().unbind(1))


def _look(ball: Ball, model: Classifier, x: Tensor, y: Tensor, size: int) -> Tensor:
    """(B, 4) the signs on a batch, `size` images at once."""

    def look(x: Tensor, y: Tensor, noisy: Tensor) -> Tensor:
        clean = is_correct(model, x, y)
        noise = is_correct(model, noisy, y)
        gradient = loss_gradient(model, x, y).flatten(1)
        lost = clean & ((gradient == 0).all(1) | ~gradient.isfinite().all(1))
        return torch.stack([clean, noise & clean, survives_fgsm(model, x, y, ball), lost], dim=1)

    return in_chunks(size, look, x, y, ball.project(x + ball.sample(x), x))


def verdict(signs: Signs, eval_results: Mapping[str, EvalResult]) -> Masking:
    """Return what the signs and the evaluations of the same images, by name, say together."""
    shares: dict[str, float] = {
        "noise": float(signs.noise.float().mean()),
        "fgsm": float(signs.fgsm.float().mean()),
        "lost_gradient": float(signs.lost.float().mean()),
    }
    reasons = [*_noise_beats_fgsm(signs), *_vanishing(signs)]
    autoattack, pgd = eval_results.get("autoattack"), _strongest_pgd(eval_results)
    if autoattack is not None:
        shares["square_alone"] = _share_of_square(autoattack)
        reasons += _square_beats_gradients(autoattack)
        if pgd is not None:
            shares["gap"] = float((eval_results[pgd].standing & ~autoattack.standing).float().mean())
            reasons += _gap(pgd, eval_results[pgd].standing, autoattack.standing)
    return Masking(verdict="suspect" if reasons else "none", reasons=reasons, shares=shares)


def _noise_beats_fgsm(signs: Signs) -> list[str]:
    noise_alone, fgsm_alone = int((signs.fgsm & ~signs.noise).sum()), int((signs.noise & ~signs.fgsm).sum())
    discordant = noise_alone + fgsm_alone
    if not discordant or binomtest(noise_alone, discordant, alternative="greater").pvalue >= _CHANCE:
        return []
    return [f"random noise breaks {noise_alone} images that FGSM does not, FGSM {fgsm_alone} that noise does not"]


def _vanishing(signs: Signs) -> list[str]:
    lost, right = int(signs.lost.sum()), int(signs.clean.sum())
    if not _clearly_above(_LOST, lost, right):
        return []
    return [f"the gradient is zero or not finite on {lost} of {right} images that are classified correctly"]


def _share_of_square(autoattack: EvalResult) -> float:
    if "square" not in autoattack.parts:
        return 0.0
    return float((autoattack.broken_by == autoattack.parts.index("square") + 1).float().mean())


def _square_beats_gradients(autoattack: EvalResult) -> list[str]:
    images = len(autoattack.broken_by)
    alone = round(_share_of_square(autoattack) * images)
    if not _clearly_above(_SQUARE, alone, images):
        return []
    return [f"Square, which uses no gradients, breaks {alone} of {images} images that the gradient attacks left"]


def _gap(pgd: str, stands_pgd: Tensor, stands_autoattack: Tensor) -> list[str]:
    images, lost = len(stands_pgd), int((stands_pgd & ~stands_autoattack).sum())
    halved = _clearly_above(0.5, lost, int(stands_pgd.sum()))
    if not _clearly_above(_GAP_OF_HALF if halved else _GAP, lost, images):
        return []
    return [f"AutoAttack breaks {lost} of {images} images that {pgd} did not"]


def _strongest_pgd(eval_results: Mapping[str, EvalResult]) -> str | None:
    found = [name for name in eval_results if isinstance(parse_evaluation(name), PGD)]
    return max(found, key=attack_strength, default=None)


def _clearly_above(bound: float, count: int, total: int) -> bool:
    return total > 0 and wilson(count, total)[0] > bound
