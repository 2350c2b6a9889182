"""How much is measured: on a GPU, and in a rehearsal."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Run:
    """A training run whose record is kept."""

    method: str
    epochs: int
    seed: int = 0


@dataclass(frozen=True)
class Scale:
    """Sizes of everything that the sections measure."""

    device: str
    block_seconds: float  # of one timed block
    peak_seconds: float  # of matrix products
    batch_size: int
    runs: tuple[Run, ...]  # of section `training`
    more_runs: tuple[Run, ...]  # of section `seeds`
    evaluations: tuple[str, ...]
    test_images: int
    autoattack_images: int  # exact and fast engine side by side
    attack_images: int  # of section `attacks`
    attack_steps: int


GPU = Scale(
    device="cuda",
    block_seconds=0.25,
    peak_seconds=3.0,
    batch_size=128,
    runs=(Run("fgsm-rs", 15), Run("bs-trades", 10), Run("trades", 10)),
    more_runs=(
        *(Run(method, 10, seed) for seed in (1, 2) for method in ("bs-trades", "trades")),
        Run("pgd-at", 8),
    ),
    evaluations=("clean", "pgd-50-10", "autoattack:n=500"),
    test_images=1000,
    autoattack_images=100,
    attack_images=1000,
    attack_steps=50,
)
REHEARSAL = Scale(
    device="cpu",
    block_seconds=0.01,
    peak_seconds=0.1,
    batch_size=32,
    runs=(Run("fgsm-rs", 1), Run("bs-trades", 1)),
    more_runs=(Run("bs-trades", 1, 1),),
    evaluations=("clean", "pgd-2-1", "autoattack:n=4"),
    test_images=20,
    autoattack_images=4,
    attack_images=20,
    attack_steps=2,
)
QUICK = replace(
    GPU, runs=(Run("bs-trades", 1),), more_runs=(), evaluations=("clean", "pgd-10", "autoattack:n=32"), test_images=200
)
SCALES = {"gpu": GPU, "quick": QUICK, "rehearsal": REHEARSAL}
