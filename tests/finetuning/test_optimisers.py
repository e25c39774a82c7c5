import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from fairbench.errors import UserError
from fairbench.finetuning import engine
from fairbench.finetuning.engine import Pace, Training
from fairbench.finetuning.optimisers import make_optimiser, rate_factor


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("cosine", lambda optimiser: CosineAnnealingLR(optimiser, 30)),
        ("linear", lambda optimiser: LinearLR(optimiser, 1.0, 0.0, 30)),
        ("constant", None),
    ],
)
def test_schedules_are_those_of_torch(name, schedule):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    theirs = schedule(optimiser) if schedule else None
    for update in range(30):
        assert rate_factor(name, update, 30) == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-9)
        optimiser.step()
        if theirs:
            theirs.step()


def test_a_warm_up_rises_evenly_and_then_the_rest_begins():
    rates = [rate_factor("linear", update, 14, warmup=4) for update in range(14)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1] + [1 - n / 10 for n in range(10)])


def test_sgd_carries_nine_tenths_of_the_last_step_along():
    value = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimiser, expected, moving = make_optimiser("sgd", [value], 0.1), value.detach().clone(), 0.0
    for gradient in (torch.tensor([1.0, 3.0]), torch.tensor([-2.0, 0.5]), torch.tensor([0.0, 1.0])):
        value.grad = gradient.double()
        optimiser.step()
        moving = 0.9 * moving + gradient.double()
        expected = expected - 0.1 * moving
    torch.testing.assert_close(value.detach(), expected)


def test_a_missing_library_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes.optim", None)
    with pytest.raises(UserError, match="pip install bitsandbytes"):
        make_optimiser("adamw8bit", [torch.nn.Parameter(torch.ones(1))], 0.1)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "sgd"])
def test_every_optimiser_goes_on_bit_identical(tmp_path, monkeypatch, optimizer):
    monkeypatch.setattr(engine, "SAVE_EVERY", 3)
    pace = Pace(0.05, 0.9, optimizer=optimizer, lr_schedule="cosine", warmup=2)

    def trained(directory, *stops):
        for stop in stops:
            value = torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))

            def accumulate(update, value=value):
                centre = torch.randn(3, 4, generator=torch.Generator().manual_seed(update))
                ((value - centre) ** 2).sum().backward()
                return {}

            training = Training({"a": value}, directory, {}, pace)
            # the schedule is of ten updates, whenever it is interrupted
            while training.state.update < stop:
                training._update(accumulate, 10)
            training._save()
        return training.average.values["a"]

    whole = trained(tmp_path / "whole", 10)
    assert torch.equal(trained(tmp_path / "parts", 4, 10), whole)
    assert not torch.equal(whole, torch.linspace(-1, 1, 12).reshape(3, 4))
