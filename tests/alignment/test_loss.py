"""The alignment loss against its formula, written out by hand."""

import numpy as np
import torch

from fairbench.alignment import Targets, alignment_loss


def targets(q: list[list[float]], label: list[int]) -> Targets:
    values = torch.tensor(q)
    return Targets(q=values, label=torch.tensor(label), confidence=values.max(dim=1).values)


GENDER = targets([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.0, 0.0]], [0, 1, 1, -1])
RACE = targets([[0.85, 0.15, 0.0], [0.1, 0.9, 0.0], [0.4, 0.3, 0.3], [0.0, 0.0, 0.0]], [0, 1, 0, -1])


def test_value_and_gradient() -> None:
    torch.manual_seed(0)
    logits = {"gender": torch.randn(4, 2, requires_grad=True), "race": torch.randn(4, 3, requires_grad=True)}
    loss = alignment_loss(logits, {"gender": GENDER, "race": RACE})
    loss.backward()
    chosen = {"gender": {0: 0, 2: 1}, "race": {0: 0, 1: 1}}  # row -> label, with a confidence of .8 or more
    expected = 0.0
    for name, rows in chosen.items():
        values = logits[name].detach().double().numpy()
        softmax = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
        gradient = np.zeros_like(values)
        for row, label in rows.items():
            expected -= np.log(softmax[row, label]) / 4
            gradient[row] = (softmax[row] - np.eye(values.shape[1])[label]) / 4
        np.testing.assert_allclose(logits[name].grad, gradient, atol=1e-6)
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-6)


def test_zero_with_a_graph_where_none_is_confident() -> None:
    logits = torch.randn(4, 2, requires_grad=True)
    loss = alignment_loss({"gender": logits}, {"gender": GENDER}, threshold=0.95)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and not logits.grad.any()


def test_a_broken_row_without_a_face_does_no_harm() -> None:
    logits = torch.zeros(4, 2)
    logits[3] = torch.nan
    logits.requires_grad_()
    loss = alignment_loss({"gender": logits}, {"gender": GENDER})
    loss.backward()
    np.testing.assert_allclose(loss.item(), 2 * np.log(2) / 4, rtol=1e-6)
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_half_precision_logits_lose_nothing_in_the_loss() -> None:
    loss = alignment_loss({"gender": torch.zeros(4, 2, dtype=torch.bfloat16)}, {"gender": GENDER})
    assert loss.dtype == torch.float32
