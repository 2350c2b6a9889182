"""Threat models: the balls of perturbations that an attack may choose from, intersected with the pixels' box [0, 1].

Radii and sizes are in units of eps, so that a method's defaults hold at any eps and norm.
Images are (B, C, H, W) in [0, 1]. Nothing here is differentiated through: attacks differentiate at the projected point.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Linf:
    """Every pixel may move by at most eps."""

    eps: float

    @torch.no_grad()
    def sample(self, x: Tensor, radius: float = 1.0) -> Tensor:
        """Noise of x's shape, uniform in the ball of `radius` eps; the caller adds it, and may project."""
        return torch.empty_like(x).uniform_(-radius * self.eps, radius * self.eps)

    @torch.no_grad()
    def project(self, z: Tensor, x: Tensor) -> Tensor:
        """The point of ball and box nearest to z."""
        return torch.clamp(z, x - self.eps, x + self.eps).clamp_(0.0, 1.0)

    @torch.no_grad()
    def move(self, z: Tensor, gradient: Tensor, size: float) -> Tensor:
        """z moved `size` eps along the gradient's sign, out of ball and box if that is where it leads."""
        return z + size * self.eps * gradient.sign()

    @torch.no_grad()
    def step(self, z: Tensor, gradient: Tensor, size: float, x: Tensor) -> Tensor:
        """z moved `size` eps along the gradient's sign, then projected; a zero gradient moves nothing."""
        return self.project(self.move(z, gradient, size), x)

    @torch.no_grad()
    def distance(self, z: Tensor, x: Tensor) -> Tensor:
        """(B,) how far z lies from x, in this norm, in the pixels' unit."""
        return (z - x).flatten(1).abs().amax(1)


@dataclass(frozen=True)
class L2:
    """The whole image may move by at most eps in Euclidean length."""

    eps: float

    @torch.no_grad()
    def sample(self, x: Tensor, radius: float = 1.0) -> Tensor:
        """Noise in a uniform direction with a length uniform in [0, radius eps].

        Lengths are uniform, not volumes, as in robust_overfitting (Rice et al., ICML 2020).
        """
        direction = torch.randn_like(x)
        length = torch.empty_like(x[:, :1, :1, :1]).uniform_(0.0, radius * self.eps)
        return length * _unit(direction)

    @torch.no_grad()
    def project(self, z: Tensor, x: Tensor) -> Tensor:
        """A point of ball and box near z: clipped to the box, then drawn towards x.

        This order keeps both constraints, because the box is convex and holds x; the other order may leave the ball's
        surface unused but is no nearer. It is not the exact Euclidean projection onto the intersection.
        """
        offset = z.clamp(0.0, 1.0) - x
        shrink = self.eps / _lengths(offset).clamp_min(self.eps)
        return x + shrink.view(-1, 1, 1, 1) * offset

    @torch.no_grad()
    def move(self, z: Tensor, gradient: Tensor, size: float) -> Tensor:
        """z moved `size` eps along the gradient's direction, out of ball and box if that is where it leads."""
        return z + size * self.eps * _unit(gradient)

    @torch.no_grad()
    def step(self, z: Tensor, gradient: Tensor, size: float, x: Tensor) -> Tensor:
        """z moved `size` eps along the gradient's direction, then projected; a zero gradient moves nothing."""
        return self.project(self.move(z, gradient, size), x)

    @torch.no_grad()
    def distance(self, z: Tensor, x: Tensor) -> Tensor:
        """(B,) how far z lies from x, in this norm, in the pixels' unit."""
        return _lengths(z - x)


Ball = Linf | L2


def make_ball(norm: str, eps: float) -> Ball:
    """Return the threat model called "linf" or "l2" with radius eps."""
    return Linf(eps) if norm == "linf" else L2(eps)


def _lengths(v: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(v.flatten(1), dim=1)
    return length


def _unit(v: Tensor) -> Tensor:
    """v scaled to length 1 image by image, however small or large it is; zero stays zero.

    Its largest entry is divided out first: the squares of 1e-25 vanish in float32, and a confident model's gradients
    are that small, so that a plain quotient would stop the attack and make the model look robust.
    """
    smallest = torch.finfo(v.dtype).tiny
    scaled = v / v.flatten(1).abs().amax(1).clamp_min(smallest).view(-1, 1, 1, 1)
    return scaled / _lengths(scaled).clamp_min(smallest).view(-1, 1, 1, 1)
