"""Averages of weights against plain sums, and what becomes of batch norm's statistics."""

import pytest
import torch
from torch import Tensor, nn

from fatbench.data.loader import Loader
from fatbench.training.averaging import WeightAverage


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(48, 2)]
    return nn.Sequential(*layers)


def loader(count: int = 24) -> Loader:
    x = torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return Loader(x, torch.arange(count) % 2, batch_size=8, seed=0, pad=0, flip=False)


def wander(model: nn.Module, times: int, average: WeightAverage, epochs: int = 0) -> list[list[Tensor]]:
    """Move the parameters at random, tell the average, and return where they have been."""
    torch.manual_seed(5)
    path = []
    for step in range(times):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        path.append([parameter.detach().clone() for parameter in model.parameters()])
        average.after_step()
        if epochs:
            average.after_epoch((step + 1) / epochs)
    return path


def test_an_exponential_average_warms_up_and_then_forgets_at_its_rate() -> None:
    model = net()
    expected = [parameter.detach().double() for parameter in model.parameters()]
    average = WeightAverage(model, ema=0.6)
    for n, weights in enumerate(wander(model, 30, average)):
        keep = min(0.6, (1 + n) / (10 + n))
        expected = [keep * one + (1 - keep) * now.double() for one, now in zip(expected, weights, strict=True)]
    average.swap_in(loader())
    for parameter, wanted in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach().double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("start", "first"), [(0.0, 0), (0.5, 4), (0.95, 9)])
def test_a_stochastic_average_is_the_mean_of_the_epochs_from_its_start_on(start: float, first: int) -> None:
    model = net()
    average = WeightAverage(model, swa=start)
    path = wander(model, 10, average, epochs=10)
    average.swap_in(loader())
    for index, parameter in enumerate(model.parameters()):
        wanted = torch.stack([weights[index] for weights in path[first:]]).double().mean(0)
        torch.testing.assert_close(parameter.detach().double(), wanted, rtol=1e-5, atol=1e-5)


def test_before_a_stochastic_average_begins_the_weights_are_scored_as_they_are() -> None:
    model = net()
    average = WeightAverage(model, swa=0.5)
    (weights,) = wander(model, 1, average, epochs=10)
    statistics = model[1].running_mean.clone()
    average.swap_in(loader())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), weights, strict=True))
    assert torch.equal(model[1].running_mean, statistics)


def test_an_exponential_average_leaves_batch_norms_statistics_as_training_has_them() -> None:
    model = net()
    model(torch.rand(4, 1, 6, 6))
    average = WeightAverage(model, ema=0.9)
    wander(model, 5, average)
    before = {name: value.clone() for name, value in model.named_buffers()}
    average.swap_in(loader())
    assert all(torch.equal(before[name], value) for name, value in model.named_buffers())
    assert int(before["1.num_batches_tracked"]) == 1  # never averaged


def test_statistics_of_a_stochastic_average_are_the_mean_over_one_pass() -> None:
    model, data = net(), loader()
    average = WeightAverage(model, swa=0.0)
    wander(model, 3, average, epochs=3)
    generator = torch.get_rng_state()
    average.swap_in(data)
    assert torch.equal(torch.get_rng_state(), generator), "dropout drew"
    maps = [model[0](data.batch(k).x).detach() for k in range(len(data))]
    wanted = torch.stack([one.mean((0, 2, 3)) for one in maps]).mean(0)
    torch.testing.assert_close(model[1].running_mean, wanted)
    assert [module.training for module in model.modules()] == [True] * 7
    assert model[1].momentum == 0.1


def test_a_model_that_wore_an_average_has_its_own_weights_and_statistics_back() -> None:
    model = net()
    model(torch.rand(4, 1, 6, 6))
    average = WeightAverage(model, swa=0.0)
    wander(model, 3, average, epochs=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    places = [parameter.data_ptr() for parameter in model.parameters()]
    with average.swapped_in(loader()):
        assert not torch.equal(model[0].weight, before["0.weight"])
        assert not torch.equal(model[1].running_mean, before["1.running_mean"])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [parameter.data_ptr() for parameter in model.parameters()] == places  # a captured graph knows them


def test_an_average_goes_on_from_its_state() -> None:
    averages = []
    for broken in (False, True):
        model = net()
        average = WeightAverage(model, ema=0.9)
        wander(model, 4, average)
        if broken:
            fresh = WeightAverage(model, ema=0.9)
            for name, tensor in fresh.state().items():
                tensor.copy_(average.state()[name])
            average = fresh
        wander(model, 4, average)
        averages.append(average.state())
    assert all(torch.equal(averages[0][name], averages[1][name]) for name in averages[0])
