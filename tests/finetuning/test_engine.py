import math

import pytest
import torch

from fairbench.errors import UserError
from fairbench.finetuning import engine
from fairbench.finetuning.engine import Pace, Training
from fairbench.finetuning.processes import Processes

PACE = Pace(learning_rate=0.1, ema_decay=0.9, clip=1.0)


class Interrupted(Exception):
    pass


def parameters():
    return {
        name: torch.nn.Parameter(torch.linspace(-1, 1, 5) * scale) for name, scale in (("a", 1), ("b", 3))
    }


def noisy_bowl(values, scale=1.0):
    """Accumulate the gradient of a bowl at a place that depends on the update."""

    def accumulate(update):
        centre = torch.randn(5, generator=torch.Generator().manual_seed(update))
        loss = sum(((value - centre) ** 2).sum() for value in values.values()) * scale
        loss.backward()
        return {"loss": loss.item()}

    return accumulate


def start(directory, values, identity="one"):
    return Training(values, directory, {"identity": identity}, PACE)


def test_an_interrupted_training_ends_bit_identical(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "SAVE_EVERY", 4)
    values = parameters()
    whole = start(tmp_path / "whole", values).run(11, noisy_bowl(values), lambda row: None)
    logged = []

    def interrupt(row):
        logged.append(row["update"])
        if len(logged) == 7:
            raise Interrupted

    values = parameters()
    with pytest.raises(Interrupted):
        start(tmp_path / "parts", values).run(11, noisy_bowl(values), interrupt)
    values = parameters()
    parts = start(tmp_path / "parts", values).run(11, noisy_bowl(values), interrupt)
    assert logged == [1, 2, 3, 4, 5, 6, 7, 5, 6, 7, 8, 9, 10, 11]
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_finished_training_does_nothing_and_can_be_prolonged(tmp_path):
    values = parameters()
    done = start(tmp_path, values).run(3, noisy_bowl(values), lambda row: None)
    values, rows = parameters(), []
    again = start(tmp_path, values)
    assert all(torch.equal(again.run(3, noisy_bowl(values), rows.append)[name], done[name]) for name in done)
    assert rows == []
    again.run(5, noisy_bowl(values), rows.append)
    assert [row["update"] for row in rows] == [4, 5]


def test_the_average_is_what_is_returned(tmp_path):
    values = parameters()
    averaged = start(tmp_path, values).run(6, noisy_bowl(values), lambda row: None)
    assert not torch.equal(averaged["a"], values["a"])


def test_large_gradients_are_clipped_and_counted(tmp_path):
    values, rows = parameters(), []
    start(tmp_path, values).run(3, noisy_bowl(values, scale=100.0), rows.append)
    assert rows[-1]["clipped"] == 3 and rows[0]["gradient_norm"] > 100
    total = torch.cat([value.grad for value in values.values()]).norm()
    torch.testing.assert_close(total.item(), PACE.clip, rtol=1e-4, atol=0)


class TwoAlike(Processes):
    """As if another process had found the same gradient."""

    def add_up(self, tensors):
        for tensor in tensors:
            tensor.mul_(2)


@pytest.mark.parametrize(("clip", "length"), [(0.5, 0.5), (1.5, 1.5), (10.0, 2.0), (None, 2.0)])
def test_what_is_clipped_is_the_gradient_of_all_processes_together(tmp_path, clip, length):
    """A gradient of length 1 in each of two: together 2."""
    value = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    direction = torch.tensor([0.6, 0.8], dtype=torch.float64)

    def accumulate(update):
        value.grad = direction.clone()
        return {}

    pace = Pace(learning_rate=0.1, ema_decay=0.0, clip=clip, optimizer="sgd")
    Training({"a": value}, tmp_path, {}, pace, TwoAlike()).run(1, accumulate, lambda row: None)
    torch.testing.assert_close(value.detach(), -0.1 * length * direction, rtol=1e-4, atol=0)


@pytest.mark.parametrize("failure", ["gradient", "exception"])
def test_updates_that_are_not_finite_are_skipped(tmp_path, failure):
    values, rows = parameters(), []
    good = noisy_bowl(values)

    def accumulate(update):
        if update not in (1, 2):
            return good(update)
        if failure == "exception":
            raise FloatingPointError
        values["a"].grad = torch.full((5,), math.nan)
        return {"loss": math.nan}

    before = []
    start(tmp_path, values).run(
        4, accumulate, lambda row: (rows.append(row), before.append(values["a"].detach().clone()))
    )
    assert [row["nonfinite"] for row in rows] == [0, 1, 2, 2]
    assert torch.equal(before[0], before[2]) and not torch.equal(before[2], before[3])
    assert all(value.isfinite().all() for value in values.values())


def test_ten_in_a_row_end_the_training(tmp_path):
    def accumulate(update):
        raise FloatingPointError

    rows = []
    with pytest.raises(UserError, match="lower the learning rate"):
        start(tmp_path, parameters()).run(50, accumulate, rows.append)
    assert len(rows) == 9


def test_a_state_of_other_settings_is_refused(tmp_path):
    values = parameters()
    start(tmp_path, values).run(1, noisy_bowl(values), lambda row: None)
    with pytest.raises(UserError, match="identity is one there and other here"):
        start(tmp_path, parameters(), identity="other")


def test_a_broken_state_is_reported(tmp_path):
    (tmp_path / engine.STATE).write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="broken"):
        start(tmp_path, parameters())


def test_a_log_may_end_the_training_and_what_was_done_is_kept(tmp_path):
    values = parameters()
    shorter = start(tmp_path / "short", values).run(3, noisy_bowl(values), lambda row: None)
    values = parameters()
    stopped = start(tmp_path / "stopped", values)
    average = stopped.run(9, noisy_bowl(values), lambda row: row["update"] == 3)
    assert stopped.state.update == 3
    assert all(torch.equal(average[name], shorter[name]) for name in average)
    values = parameters()
    again = start(tmp_path / "stopped", values)
    average = again.run(9, noisy_bowl(values), lambda row: pytest.fail("it went on"))
    assert again.state.update == 3
    assert all(torch.equal(average[name], shorter[name]) for name in average)
