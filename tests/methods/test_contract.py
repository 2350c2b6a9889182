"""What every method file must keep, found automatically; and what a user is told about a method that does not load."""

import ast
import re

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fatbench import methods
from fatbench.errors import UsageError

from . import EPS, make_batches, make_context, make_optimizer, smooth_net, train

aten = torch.ops.aten
NAMES = methods.names()
CASES = [(name, norm) for name in NAMES for norm in methods.describe(name).norms]
every_case = pytest.mark.parametrize(("name", "norm"), CASES)
every_method = pytest.mark.parametrize("name", NAMES)


def updates(name, norm, model, ctx=None, **settings):
    """Yield every loss of three batches with the optimiser step taken once the caller is done with it."""
    ctx, opt, method = ctx or make_context(norm), make_optimizer(model), methods.load(name, **settings)
    for batch in make_batches():
        for loss in method(model, batch, ctx):
            yield batch, loss
            opt.zero_grad()
            loss.backward()
            opt.step()
            opt.zero_grad()


def variants(name):
    """The defaults, and every other word of every choice."""
    hyper = methods.describe(name).hyper.values()
    return [{}, *({one.name: word} for one in hyper for word in one.choices if word != one.default)]


def modes(model):
    return [module.training for module in model.modules()]


def graph_of(loss):
    """The autograd nodes that lead to the loss."""
    found, queue = set(), [loss.grad_fn]
    while queue:
        node = queue.pop()
        if node is not None and node not in found:
            found.add(node)
            queue += [parent for parent, _ in node.next_functions]
    return found


def furthest(z, x, norm):
    offset = (z - x).flatten(1)
    return (offset.abs().amax(1) if norm == "linf" else offset.square().sum(1).sqrt()).max().item()


# What the trainer relies on


# Operators whose result, or its size, the host must see: comparisons, choices and counts, decompositions, draws.
WAITS = """
    _local_scalar_dense is_nonzero equal allclose
    nonzero masked_select _unique2 unique_dim unique_dim_consecutive unique_consecutive bincount histc _to_sparse
    _linalg_svd _linalg_eigh _linalg_eigvals linalg_eig linalg_eigvals linalg_lstsq linalg_pinv linalg_matrix_exp
    _linalg_check_errors multinomial
"""


def has_a_mask(name, args):
    """Values chosen, or put where a mask is true; a single value for all of those needs no counting."""
    indexes = name == "index" or (name in {"index_put", "index_put_"} and args[2].numel() != 1)
    return indexes and any(one is not None and one.dtype == torch.bool for one in args[1])


class WaitsForNothing(TorchDispatchMode):
    """Fails where the host would have to wait for a device: a CUDA graph cannot hold that."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        counts = name == "repeat_interleave" and "output_size" not in kwargs
        waits = name in WAITS.split() or counts or has_a_mask(name, args)
        assert not waits, f"{func}: declare NOT_CAPTURABLE, with the reason, or do without"
        return func(*args, **kwargs)


@every_case
def test_no_method_waits_for_the_device_unless_it_says_so(name, norm):
    if methods.describe(name).not_capturable:
        pytest.skip("declared")
    model, ctx, method = smooth_net(), make_context(norm), methods.load(name)
    for batch in make_batches():
        with WaitsForNothing():
            for loss in method(model, batch, ctx):
                loss.backward()


@every_method
def test_no_method_goes_behind_torchs_back(name):
    """Weights changed through `.data` change unseen, and the fast engine's copies of them would stay as they are."""
    assert not methods.describe(name).touches_data


SQUARE = torch.eye(3) + 1


@pytest.mark.parametrize(
    "wait",
    [
        lambda: SQUARE.sum().item(),
        lambda: SQUARE[SQUARE > 1],
        lambda: SQUARE.clone().index_put_((SQUARE > 1,), torch.ones(3)),
        lambda: torch.equal(SQUARE, SQUARE),
        lambda: torch.is_nonzero(SQUARE.sum()),
        lambda: SQUARE.repeat_interleave(torch.arange(3), dim=0),
        lambda: torch.arange(3).bincount(),
        lambda: SQUARE.unique_consecutive(),
        lambda: torch.linalg.svd(SQUARE),
        lambda: torch.linalg.eigh(SQUARE),
        lambda: torch.linalg.lstsq(SQUARE, SQUARE),
        lambda: torch.linalg.inv(SQUARE),
        lambda: SQUARE.multinomial(1),
    ],
)
def test_what_waits_is_found(wait):
    with pytest.raises(AssertionError, match="NOT_CAPTURABLE"), WaitsForNothing():
        wait()


def test_what_does_not_wait_is_let_be():
    with WaitsForNothing():
        square = SQUARE.clone()
        square[square > 1] = 0.0
        square[torch.tensor([0, 1])].repeat_interleave(torch.ones(2).long(), dim=0, output_size=2)


@every_case
def test_every_loss_is_a_finite_scalar_that_reaches_every_weight(name, norm):
    model, count = smooth_net(), 0
    for _, loss in updates(name, norm, model):
        reached = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
        assert loss.shape == ()
        assert loss.isfinite()
        assert [gradient is not None for gradient in reached] == [True] * len(reached)
        count += 1
    assert count >= len(make_batches())


@every_case
def test_every_module_keeps_its_mode_at_every_yield_and_at_the_end(name, norm):
    model = smooth_net()
    model[1].eval()  # a frozen batch norm, which a blunt model.train() would wake
    before = modes(model)
    for _, _ in updates(name, norm, model):
        assert modes(model) == before
    assert modes(model) == before


@every_case
def test_the_weights_and_their_gradients_are_the_trainers_alone(name, norm):
    model, method, ctx = smooth_net(), methods.load(name), make_context(norm)
    start = [weight.detach().clone() for weight in model.parameters()]
    for batch in make_batches():
        for loss in method(model, batch, ctx):
            assert [weight.grad for weight in model.parameters()] == [None] * len(start)
            loss.backward()
            model.zero_grad()
        assert [weight.grad for weight in model.parameters()] == [None] * len(start)
    for weight, was in zip(model.parameters(), start, strict=True):
        assert weight.requires_grad
        assert torch.equal(weight, was)


@every_case
def test_the_batch_is_left_as_it_was(name, norm):
    method, ctx, model = methods.load(name), make_context(norm), smooth_net()
    for batch, untouched in zip(make_batches(), make_batches(), strict=True):
        for loss in method(model, batch, ctx):
            loss.backward()
        assert not batch.x.requires_grad
        assert [torch.equal(a, b) for a, b in zip(batch, untouched, strict=True)] == [True, True, True]


def watched(name, norm, seen, **settings):
    """As updates, of a model that appends to `seen` each of its inputs, and the logits."""
    model = smooth_net()
    model.register_forward_hook(lambda _, inputs, logits: seen.append((inputs[0].detach().clone(), logits)))
    yield from updates(name, norm, model, **settings)


@every_case
def test_what_the_model_sees_lies_where_the_method_says(name, norm):
    """In ball and box, if it declares nothing else; and it does what it declares.

    LEAVES_BOX: its attack may leave both. TRAINS_OUTSIDE: so may the loss that trains, the box. REACH: and the ball.
    It declares them for whatever it may be told to do by a word.
    """
    description, seen = methods.describe(name), []
    attack_strays = trained_outside = reached = 0
    for batch, loss in (pair for settings in variants(name) for pair in watched(name, norm, seen, **settings)):
        nodes = graph_of(loss)
        assert [logits for _, logits in seen if logits.grad_fn in nodes] != []
        for inputs, logits in seen:
            for z in inputs.split(len(batch.x)):  # two forwards may share one call
                in_box, away = bool(z.min() >= 0 and z.max() <= 1), furthest(z, batch.x, norm) / EPS[norm]
                if logits.grad_fn in nodes:
                    trained_outside += not in_box
                    reached = max(reached, away)
                else:
                    attack_strays += not in_box or away > max(1, description.reach) + 1e-9
        seen.clear()
    assert bool(description.trains_outside) == (trained_outside > 0)
    assert reached <= description.reach + 1e-9
    assert description.reach == 1 or reached > 1 + 1e-9
    assert bool(description.leaves_box) == (attack_strays > 0)


# What may outlive a batch


@every_case
def test_the_same_seed_gives_the_same_weights(name, norm):
    states = []
    for _ in range(2):
        model = smooth_net()
        torch.manual_seed(3)
        train(methods.load(name), model, make_batches(), make_context(norm), make_optimizer(model))
        states.append(model.state_dict())
    assert [key for key in states[0] if not torch.equal(states[0][key], states[1][key])] == []


@every_case
def test_buffers_stay_where_they_are_and_carry_no_graph(name, norm):
    """A captured CUDA graph writes to the addresses that it saw."""
    ctx, places = make_context(norm), None
    for _ in updates(name, norm, smooth_net(), ctx):
        found = {key: (value.data_ptr(), value.shape, value.requires_grad) for key, value in ctx.buffers.items()}
        places = places or found
        assert found == places
        assert not any(requires_grad for _, _, requires_grad in found.values())


@every_case
def test_a_batch_may_be_asked_for_its_first_loss_twice(name, norm):
    """Buffers change after the yield, or to the same: so that --awp can have the loss again with other weights."""
    model, ctx, method = smooth_net(), make_context(norm), methods.load(name)
    for batch in make_batches():
        losses, state = [], {key: value.clone() for key, value in model.state_dict().items()}
        for _ in range(2):
            torch.manual_seed(5)
            model.load_state_dict(state)
            losses.append(next(method(model, batch, ctx)).item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)
        train(method, model, [batch], ctx, make_optimizer(model))


@every_case
def test_nothing_but_the_buffers_outlives_a_batch(name, norm, tmp_path):
    """A resumed run has the weights, the random stream and ctx.buffers back, but a method's module is fresh."""
    description, (first, *rest) = methods.describe(name), make_batches(4)
    copy = tmp_path / description.path.name
    copy.write_text(description.source)
    states = []
    for resumed in (False, True):
        method, model, ctx = methods.load(name), smooth_net(), make_context(norm)
        opt = make_optimizer(model)
        torch.manual_seed(3)
        train(method, model, [first], ctx, opt)
        if resumed:
            saved = {key: value.clone() for key, value in ctx.buffers.items()}
            method, ctx = methods.load(str(copy)), make_context(norm, buffers=saved)
        train(method, model, rest, ctx, opt)
        states.append(model.state_dict())
    assert [key for key in states[0] if not torch.equal(states[0][key], states[1][key])] == []


# What the source must keep: no reaching around the arguments, nothing that a CUDA graph cannot capture

HOST_SYNCS = {"item", "cpu", "tolist", "numpy", "cuda", "nonzero"}


def offences(source):
    """Return what a method's source does that a method must not."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            found.append("relative import")
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in HOST_SYNCS:
            found.append(f".{node.func.attr}()")
        elif isinstance(node, (ast.If, ast.IfExp, ast.While, ast.Assert)) and re.search(
            r"\.(step|progress)\b(?!\()", ast.unparse(node.test)
        ):
            found.append(f"branch on {ast.unparse(node.test)}")
    allowed = re.compile(r"(torch|math|collections|dataclasses|typing|fatbench\.(interface|threat|ops))(\.|$)")
    return [what for what in found if not allowed.match(what)]


@every_method
def test_the_source_reaches_for_nothing_but_its_arguments_and_stays_on_the_device(name):
    assert offences(methods.describe(name).source) == []


@pytest.mark.parametrize(
    ("line", "offence"),
    [
        ("from fatbench.training import budget", "fatbench.training.budget"),
        ("from fatbench import data", "fatbench.data"),
        ("import fatbench.models.resnet", "fatbench.models.resnet"),
        ("from . import trades", "relative import"),
        ("from ..training import budget", "relative import"),
        ("loss.item()", ".item()"),
        ("x.mean().cpu()", ".cpu()"),
        ("if ctx.step % 2: pass", "branch on ctx.step % 2"),
        ("alpha = 1 if ctx.progress < 0.5 else 2", "branch on ctx.progress < 0.5"),
    ],
)
def test_the_scan_of_sources_finds(line, offence):
    assert offences(f"import torch\nfrom fatbench.ops import kl\n{line}\n") == [offence]


@every_method
def test_the_docstring_is_a_card(name):
    description = methods.describe(name)
    card = re.sub(r"\s+", " ", description.docstring)
    assert description.title.endswith((".", ")"))
    assert "Passes: " in card
    assert "Differences: " in card
    assert [key for key, hyper in description.hyper.items() if not hyper.meaning] == []
    assert set(description.norms) <= set(EPS)


# What a user is told

OWN = '''
from fatbench.ops import input_gradient


def my_idea(model, batch, ctx, *, size: float = 0.5, often: int = 2, loud: bool = False, word: str = "sum"):
    """My idea.

    Args:
        size: how far to go,
            in units of eps.
        often: how often.
    """
    for _ in range(often):
        yield size * (model(batch.x) ** 2).mean()
'''


@pytest.fixture
def write(tmp_path):
    """Write a method file called my_idea.py, and return its path."""

    def write_source(source):
        path = tmp_path / "my_idea.py"
        path.write_text(source)
        return str(path)

    return write_source


def refusal(name, **hyper):
    with pytest.raises(UsageError) as error:
        methods.load(name, **hyper)
    assert error.value.exit_code == 2
    return str(error.value)


def test_an_unknown_method_is_told_what_exists():
    there_are = f"there are {', '.join(NAMES)}, or the path of a .py file"
    assert refusal("bs-trade") == f"no method 'bs-trade': {there_are}"
    assert refusal("bs_trades") == f"no method 'bs_trades': {there_are}"
    assert refusal("") == f"no method '': {there_are}"
    assert "bs-trades, " in there_are


def test_an_unknown_hyperparameter_is_told_what_the_method_has():
    assert refusal("bs-trades", bta=8) == "bs-trades has no 'bta'; it has steps, alpha, beta, gamma"
    assert refusal("standard", alpha=1.0) == "standard has no 'alpha'; it has no hyper-parameters"


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("bs-trades", {"beta": float("nan")}, "bs-trades: 'beta' must be finite and not negative, not nan"),
        ("bs-trades", {"beta": "-inf"}, "bs-trades: 'beta' must be finite and not negative, not -inf"),
        ("bs-trades", {"beta": "ten"}, "bs-trades: 'beta' takes a number, not 'ten'"),
        ("bs-trades", {"beta": True}, "bs-trades: 'beta' takes a number, not 'True'"),
        ("bs-trades", {"beta": ""}, "bs-trades: 'beta' takes a number, not ''"),
        ("pgd-at", {"steps": 2.5}, "pgd-at: 'steps' takes a whole number, not '2.5'"),
        ("pgd-at", {"steps": "many" * 20}, f"pgd-at: 'steps' takes a whole number, not '{'many' * 10}'"),
        ("pgd-at", {"steps": 0}, "pgd-at: 'steps' is a count, at least 1, not 0"),
        ("free-at", {"replays": "-3"}, "free-at: 'replays' is a count, at least 1, not -3"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(name, hyper, message):
    assert refusal(name, **hyper) == message


def test_settings_replace_defaults_and_text_is_read_by_type():
    assert methods.load("bs-trades").hyper == {"steps": 1, "alpha": 1.0, "beta": 10.0, "gamma": 1.0}
    assert methods.load("bs-trades", steps="3", gamma="5e-1").hyper == {
        "steps": 3, "alpha": 1.0, "beta": 10.0, "gamma": 0.5,
    }  # fmt: skip
    assert type(methods.load("bs-trades", beta=8).hyper["beta"]) is float


def test_a_file_of_ones_own_is_a_method(write):
    path = write(OWN)
    method = methods.load(path, often="3", loud="yes", word=" mean ")
    assert method.name == "my-idea"
    assert method.source == OWN
    assert method.hyper == {"size": 0.5, "often": 3, "loud": True, "word": "mean"}
    assert method.description.hyper["size"].meaning == "how far to go, in units of eps."
    assert method.description.title == "My idea."
    model, batch = smooth_net(), make_batches()[0]
    losses = list(method(model, batch, make_context("linf")))
    assert [loss.shape for loss in losses] == [()] * 3
    assert refusal(path, loud="maybe") == "my-idea: 'loud' takes true or false, not 'maybe'"


def test_listing_a_file_does_not_run_it(write):
    description = methods.describe(write(f"raise RuntimeError('I was run')\n{OWN}"))
    assert list(description.hyper) == ["size", "often", "loud", "word"]


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert refusal(f"{tmp_path}/nothing.py") == f"no method file {tmp_path}/nothing.py"


def test_a_file_without_the_function_is_told_its_name(write):
    path = write(OWN.replace("def my_idea", "def another"))
    assert refusal(path) == f"{path} holds no method: it needs a function 'def my_idea(model, batch, ctx, *, ...)'"


def test_a_file_that_fails_on_import_says_that_it_did(write):
    path = write(f"import no_such_module_anywhere\n{OWN}")
    assert refusal(path) == f"{path} fails to import: ModuleNotFoundError: No module named 'no_such_module_anywhere'"
    path = write(f"1 / 0\n{OWN}")
    assert refusal(path) == f"{path} fails to import: ZeroDivisionError: division by zero"


def test_a_file_that_is_no_python_says_so(write):
    path = write("def my_idea(:\n")
    assert refusal(path).startswith(f"{path} is not valid Python: ")


def test_a_function_that_returns_its_loss_is_told_to_yield_it(write):
    path = write(OWN.replace("yield", "return"))
    says = "'my_idea' yields no losses; a method says 'yield loss' once per optimiser step"
    assert refusal(path) == f"{path}: {says}"


@pytest.mark.parametrize("argument", ["size=0.5", "size: float", "size: list = 0.5", "size: 'float' = 0.5"])
def test_a_hyperparameter_needs_a_type_and_a_default(write, argument):
    path = write(OWN.replace("size: float = 0.5", argument))
    assert refusal(path) == f"{path}: 'size' needs a default and one of the types int, float, bool, str"


@pytest.mark.parametrize(
    ("argument", "kind"),
    [
        ("size: float = 8 / 255", "a number"),  # would have to be run
        ("size: float = 1e999", "a number"),
        ("size: float = True", "a number"),
        ("size: int = 1.5", "a whole number"),
        ("size: bool = 1", "true or false"),
        ("size: str = 3", "a word"),
    ],
)
def test_a_default_must_fit_its_type_and_be_readable_without_running_the_file(write, argument, kind):
    path = write(OWN.replace("size: float = 0.5", argument))
    assert refusal(path) == f"{path}: the default of 'size' is not {kind}"


@pytest.mark.parametrize("argument", ["size: int = 0", "size: float = -0.5"])
def test_a_default_keeps_the_rules_that_values_keep(write, argument):
    assert "too small for a count or size" in refusal(write(OWN.replace("size: float = 0.5", argument)))


@pytest.mark.parametrize("line", ['NORMS = ("linf", "l2")', 'NORMS: tuple[str, ...] = ("linf", "l2")'])
def test_norms_are_declared_with_or_without_a_type(write, line):
    assert methods.describe(write(f"{line}\n{OWN}")).norms == ("linf", "l2")
    with pytest.raises(UsageError, match="NORMS is a tuple of 'linf' and 'l2', not 'l2'"):
        _ = methods.describe(write(f"NORMS = 'l2'\n{OWN}")).norms


def test_a_function_that_does_not_take_what_it_is_given_is_told(write):
    path = write("def my_idea(model, batch): yield 0")
    form = "def my_idea(model, batch, ctx, *, ...)"
    assert refusal(path) == f"{path}: 'my_idea' does not take what a method is given: '{form}'"


def test_a_file_may_use_dataclasses_and_hyphens_and_may_not_exit(write, tmp_path):
    dataclass = "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass State: n: int\n"
    hyphened = tmp_path / "my-idea.py"
    hyphened.write_text(dataclass + OWN)
    assert methods.load(str(hyphened)).name == "my-idea"
    path = write(f"import sys\nsys.exit(3)\n{OWN}")
    assert refusal(path) == f"{path} fails to import: SystemExit: 3"
