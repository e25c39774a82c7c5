import torch
from hypothesis import given
from hypothesis import strategies as st

from fairbench.finetuning.memory import largest, portions
from tests.finetuning.stand_ins import tiny_model


@given(fixed=st.integers(0, 10**9), each=st.integers(1, 10**8), free=st.integers(0, 10**11))
def test_the_largest_count_fits_and_one_more_does_not(fixed, each, free):
    use = lambda rows: fixed + each * rows  # noqa: E731
    rows = largest(use, free)
    assert use(rows + 1) > free
    assert use(rows) <= free or rows == 1


def test_on_a_cpu_numbers_are_taken_and_the_rest_is_a_matter_of_cache():
    model = tiny_model()
    never = lambda latents: 1 / 0  # noqa: E731
    assert portions(model, 24, never, 7, 5) == (7, 7, 5)
    assert portions(model, 24, never, "auto", "auto") == (48, 192, 24)
    assert portions(model, 10**6, never, "auto", "auto") == (48, 192, 256)
    assert torch.equal(model.noise([0]), model.noise([0]))
