import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairbench.errors import CostWarning, UserError
from fairbench.models.capacity import SHARE, attempt, fitting, halving, in_portions, largest
from tests.models.memories import Card, OutOfMemory

CPU = torch.device("cpu")
silent = pytest.mark.filterwarnings("ignore::fairbench.errors.CostWarning")


@given(fixed=st.integers(0, 10**9), each=st.integers(1, 10**8), free=st.integers(0, 10**11))
def test_the_largest_count_fits_and_one_more_does_not(fixed, each, free):
    use = lambda rows: fixed + each * rows  # noqa: E731
    rows = largest(use(2), use(4), free)
    assert use(rows + 1) > free
    assert use(rows) <= free or rows == 1


@given(
    total=st.integers(0, 10**7),
    fixed=st.integers(0, 10**5),
    each=st.integers(1, 10**5),
    most=st.integers(1, 99),
)
def test_what_fits_is_as_much_as_it_may_be(total, fixed, each, most):
    card = Card(total, fixed, each)
    count = fitting(card.run, most, card)
    if card.needs(1) > total:
        assert count == 0
        return
    assert card.needs(count) <= total
    assert count in (1, 2, most) or card.needs(count + 1) > int(SHARE * total) >= card.needs(count)


@pytest.mark.parametrize("power", [2, 3])
def test_what_was_extrapolated_is_tried_out_and_halved_until_it_fits(power):
    """Attention needs more than twice the memory for twice the rows: a straight line through 2 and 4 lies."""
    card = Card(10_000, power=power)
    count = fitting(card.run, 10**6, card)
    assert card.needs(count) <= 10_000 < card.needs(2 * count + 1)


def test_more_than_can_be_used_is_not_tried():
    card = Card(10**9)
    assert fitting(card.run, 24, card) == 24 and max(card.asked) == 24


def test_only_what_memory_is_to_blame_for_is_tried_again():
    def broken():
        raise RuntimeError("shapes do not fit")

    def full():
        raise OutOfMemory

    assert attempt(lambda: 3) == 3 and attempt(full) is None
    with pytest.raises(RuntimeError, match="shapes"):
        attempt(broken)


def test_each_halving_is_told_in_a_line():
    card = Card(5)
    with pytest.warns(CostWarning) as told:
        _, count = halving(lambda size: (card.run(size), size), 16, "sampled")
    assert count == 4 and card.asked == [16, 8, 4]
    assert [str(warning.message) for warning in told] == [
        "memory ran out: images are sampled 8 at a time from now on",
        "memory ran out: images are sampled 4 at a time from now on",
    ]


@silent
@given(total=st.integers(0, 40), count=st.integers(1, 50), memory=st.integers(1, 60))
def test_portions_are_all_rows_once_and_in_order(total, count, memory):
    card, rows = Card(memory), list(range(total))

    def run(part):
        card.run(part.stop - part.start)
        return rows[part]

    parts = list(in_portions(run, total, count, "judged", CPU))
    assert [row for part in parts for row in part] == rows
    sizes = [len(part) for part in parts]
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True) and max(sizes, default=1) <= min(count, memory)


@silent
def test_a_card_too_small_for_one_is_one_line():
    with pytest.raises(
        UserError, match=r"^cpu has too little free memory for one image to be judged: free some"
    ):
        list(in_portions(lambda part: Card(0).run(1), 3, 4, "judged", CPU))
