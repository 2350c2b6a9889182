"""Published recipes: each says what its authors' code does, of a method that is there, within its own ranges."""

import re

import pytest

from fatbench import methods
from fatbench.config import presets
from fatbench.config.presets import OF_THE_METHOD
from fatbench.config.request import Request
from fatbench.config.resolve import resolve

OWN = {"bs-at"}  # of ours: nobody has published a recipe
RECIPES = presets.recipes()
REGISTERED = [method for method in RECIPES if method in methods.names()]

# Read off the authors' scripts once more: epochs, batch, peak rate, weight decay, where it turns, network.
CYCLE, HALVES, ENDS = "1/2", ("1/2", "3/4"), ("10/11", "21/22")
SETTINGS = {
    "standard": (200, 128, 0.1, 5e-4, HALVES, "preact-resnet18"),
    "fgsm": (15, 128, 0.2, 5e-4, CYCLE, "preact-resnet18"),
    "fgsm-rs": (15, 128, 0.2, 5e-4, CYCLE, "preact-resnet18"),
    "free-at": (80, 128, 0.04, 5e-4, CYCLE, "preact-resnet18"),
    "pgd-at": (200, 128, 0.1, 5e-4, HALVES, "preact-resnet18"),
    "trades": (76, 128, 0.1, 2e-4, ("37/38",), "wrn-34-10"),
    "bs-trades": (100, 128, 0.1, 5e-4, HALVES, "resnet18"),
    "fast-trades": (100, 128, 0.1, 5e-4, HALVES, "resnet18"),
    "n-fgsm": (30, 128, 0.2, 5e-4, CYCLE, "preact-resnet18"),
    "zero-grad": (30, 128, 0.2, 5e-4, "2/5", "preact-resnet18"),
    "multi-grad": (30, 128, 0.2, 5e-4, "2/5", "preact-resnet18"),
    "aaer": (30, 128, 0.2, 5e-4, CYCLE, "preact-resnet18"),
    "mart": (120, 128, 0.01, 3.5e-3, ("37/60", "89/120", "33/40"), "resnet18"),
    "grad-align": (30, 128, 0.3, 5e-4, "2/5", "preact-resnet18"),
    "nuat": (100, 64, 0.1, 5e-4, "2/5", "resnet18"),
    "gat": (100, 64, 0.1, 5e-4, ("71/100", "43/50"), "resnet18"),
    "elle": (30, 128, 0.2, 5e-4, CYCLE, "preact-resnet18"),
    "fgsm-mep": (110, 128, 0.1, 5e-4, ENDS, "resnet18"),
    "fgsm-uap": (110, 128, 0.1, 5e-4, ENDS, "resnet18"),
    "liet": (100, 128, 0.1, 5e-4, None, "resnet18"),
    "atta": (38, 64, 0.1, 2e-4, ("29/38", "35/38"), "wrn-34-10"),
    "fgsm-pco": (110, 128, 0.1, 5e-4, ENDS, "resnet18"),
    "ssat": (30, 128, 0.3, 5e-4, CYCLE, "preact-resnet18"),
    "tdat": (110, 128, 0.1, 5e-4, ENDS, "resnet18"),
}
LIET_8 = {"weight": 100.0, "true_mass": 0.4, "min_mask": 0.1, "max_mask": 0.5, "renewed": 1}
LIET_16 = {"weight": 20.0, "true_mass": 0.6, "min_mask": 0.0, "max_mask": 1.0, "renewed": 1}
WIDER = {"trades", "bs-trades", "fast-trades", "mart", "atta"}  # eps 0.031, as TRADES has it


def test_every_method_has_an_official_recipe_but_our_own() -> None:
    assert set(methods.names()) - OWN <= RECIPES.keys()
    assert not RECIPES.keys() & OWN


def test_every_recipe_is_of_a_method_that_is_there() -> None:
    assert RECIPES.keys() <= set(methods.names())
    assert RECIPES.keys() == SETTINGS.keys()


@pytest.mark.parametrize("method", RECIPES)
def test_a_recipe_is_called_after_its_method_and_says_what_to_expect(method: str) -> None:
    name = RECIPES[method]
    recipe = presets.load(name)
    comment = (presets.FOLDER / f"{name}.toml").read_text(encoding="utf-8").partition("\nmethod = ")[0].splitlines()
    year = re.search(r"[12][0-9]{3}", name)
    assert recipe["method"] == method
    assert year is not None
    assert year[0] in recipe["source"] or "arXiv" in recipe["source"]
    assert comment[1] == f"# fatbench run --preset {name}"
    assert "What to expect: " in "\n".join(comment)
    assert all(line.startswith("# ") and len(line) <= 120 for line in comment)


@pytest.mark.parametrize("method", SETTINGS)
def test_a_recipe_sets_what_its_authors_set(method: str) -> None:
    flags = {key: value for key, value in presets.official(method).items() if key not in OF_THE_METHOD}
    (spec,) = resolve(Request(["standard"], settings=flags), "cpu")  # its own method may be awaited
    epochs, batch, lr, decay, turns, model = SETTINGS[method]
    assert (spec.training.epochs, spec.training.batch_size, spec.training.lr, spec.training.weight_decay) == (
        epochs,
        batch,
        lr,
        decay,
    )
    assert (spec.dataset, spec.model, spec.training.momentum) == ("cifar10", model, 0.9)
    assert spec.eps == ("0.031" if method in WIDER else "8/255")
    if isinstance(turns, tuple):
        assert (spec.training.schedule, spec.training.milestones) == ("piecewise", turns)
    else:
        assert spec.training.schedule == ("cyclic" if turns else "onecycle")
        assert spec.training.peak == (None if turns == CYCLE else turns)


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_sets_hyper_parameters_that_methods_have(name: str) -> None:
    for method, hyper in presets.load(name).get("hyper", {}).items():
        assert method in methods.names()
        if method in methods.names():
            methods.describe(method).complete(hyper)


@pytest.mark.parametrize("method", REGISTERED)
def test_a_recipe_sets_hyper_parameters_that_the_method_has(method: str) -> None:
    recipe, description = presets.official(method), methods.describe(method)
    assert recipe.get("hyper", {}).keys() <= {method}
    description.complete(recipe.get("hyper", {}).get(method, {}))
    for track in recipe.get("tracks", []):
        description.complete({**track.get("when", {}), **track["hyper"]})
    assert recipe.get("published", {}).keys() <= description.hyper.keys()


def test_every_recipe_of_a_method_with_hyper_parameters_has_published_ranges() -> None:
    assert [method for method in RECIPES if not presets.official(method).get("published")] == ["standard"]


@pytest.mark.parametrize("method", RECIPES)
def test_what_a_recipe_sets_lies_in_its_own_published_range(method: str) -> None:
    recipe = presets.official(method)
    described = [methods.describe(method).complete({})] if method in REGISTERED else []
    chosen = [*described, recipe.get("hyper", {}).get(method, {}), *(one["hyper"] for one in recipe.get("tracks", []))]
    for name, values in recipe.get("published", {}).items():
        assert len(values) == 2
        low, high = values
        assert all(low <= hyper[name] <= high for hyper in chosen if name in hyper)


@pytest.mark.parametrize("method", REGISTERED)
@pytest.mark.parametrize("eps", [None, "8/255", "12/255", "16/255"])
def test_an_official_recipe_resolves_at_every_eps(method: str, eps: str | None) -> None:
    (spec,) = resolve(Request([method], settings={"eps": eps} if eps else {}, recipe="official"), "cpu")
    recipe = presets.official(method)
    tied = presets.at_eps(spec.eps, "cifar10", spec.training.hyper, recipe.get("tracks", []))
    expected = {**recipe.get("hyper", {}).get(method, {}), **tied}
    assert expected.items() <= spec.training.hyper.items()
    assert spec.eps == (eps or recipe["eps"])


@pytest.mark.parametrize(
    ("method", "eps", "dataset", "chosen", "tied"),
    [
        ("grad-align", "8/255", "cifar10", {}, {"weight": 0.2}),
        ("grad-align", "12/255", "cifar10", {}, {"weight": 0.632}),
        ("grad-align", "16/255", "digits", {}, {"weight": 2.0}),
        ("grad-align", "10/255", "cifar10", {}, {}),
        ("aaer", "8/255", "cifar10", {"base": "rs"}, {"lambda1": 1.0, "lambda2": 2.5, "lambda3": 1.5}),
        ("aaer", "12/255", "cifar10", {"base": "rs"}, {"lambda1": 1.0, "lambda2": 5.0, "lambda3": 2.5}),
        ("aaer", "16/255", "cifar10", {"base": "n"}, {"lambda1": 1.0, "lambda2": 8.5, "lambda3": 1.5}),
        ("aaer", "8/255", "cifar100", {"base": "rs"}, {"lambda1": 1.0, "lambda2": 3.5, "lambda3": 1.5}),
        ("aaer", "12/255", "cifar100", {"base": "n"}, {"lambda1": 1.0, "lambda2": 3.5, "lambda3": 0.3}),
        ("elle", "8/255", "cifar10", {}, {"weight": 1000.0}),
        ("elle", "12/255", "cifar10", {}, {"weight": 5000.0}),
        ("elle", "16/255", "cifar10", {}, {"weight": 5000.0}),
        ("elle", "24/255", "cifar10", {}, {"weight": 10000.0}),
        ("liet", "16/255", "cifar100", {}, LIET_16 | {"renewed": 5}),
        ("liet", "8/255", "cifar100", {}, LIET_8 | {"weight": 200.0, "true_mass": 0.2, "renewed": 5}),
        ("liet", "8/255", "cifar10", {}, LIET_8),
        ("liet", "16/255", "cifar10", {}, LIET_16),
        ("zero-grad", "8/255", "svhn", {}, {"quantile": 0.7}),
        ("zero-grad", "8/255", "cifar10", {}, {"quantile": 0.35}),
        ("zero-grad", "8/255", "cifar100", {}, {"quantile": 0.45}),
    ],
)
def test_what_authors_tie_to_eps(
    method: str, eps: str, dataset: str, chosen: dict[str, str], tied: dict[str, float]
) -> None:
    assert presets.at_eps(eps, dataset, chosen, presets.official(method)["tracks"]) == tied  # type: ignore[arg-type]


def test_recipes_move_batch_norm_as_often_as_their_authors_loops() -> None:
    """Three train-mode forwards: clean, adversarial, and clean again."""
    for method in REGISTERED:
        hyper = presets.official(method).get("hyper", {}).get(method, {})
        assert hyper.get("clean_twice") is (True if method in {"trades", "gat", "nuat"} else None)


@pytest.mark.parametrize("method", ["aaer", "elle", "grad-align"])
def test_the_tracks_of_the_field_are_all_there(method: str) -> None:
    named = {eps for track in presets.official(method)["tracks"] for eps in track["eps"]}
    assert {"8/255", "12/255", "16/255"} <= named
