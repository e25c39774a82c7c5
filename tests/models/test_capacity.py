import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairbench.errors import CostWarning, UserError
from fairbench.models import capacity
from fairbench.models.capacity import SHARE, AtOnce, CudaMemory, attempt, fitting, largest
from tests.models.memories import Card

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def nothing_to_clear():
    """There is no card whose cache is to be cleared, and looking for garbage takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capacity, "clear_device_cache", lambda garbage_collection: None)
        yield


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


@given(total=st.integers(1, 9), most=st.integers(1, 9))
def test_never_more_than_asked_for(total, most):
    """Also where 4, which is asked to tell what one more needs, does not fit."""
    card = Card(total)
    assert 1 <= fitting(card.run, most, card) <= min(most, total)


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 2.00 MiB.",
        "CUDA error: out of memory\nCUDA kernel errors might be reported later",
        "CUDA ran out of memory outside PyTorch's allocator",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_memory_that_ran_out_is_known_by_its_words(words):
    def full():
        raise RuntimeError(words)

    assert attempt(full) is None


def test_only_what_memory_is_to_blame_for_is_tried_again():
    def broken():
        raise RuntimeError("shapes do not fit")

    assert attempt(lambda: 3) == 3
    with pytest.raises(RuntimeError, match="shapes"):
        attempt(broken)


def test_each_halving_is_told_in_a_line_and_holds_from_then_on():
    card, at_once = Card(5), AtOnce(16, "sampled")
    with pytest.warns(CostWarning) as told:
        at_once.attempt(lambda count: (card.run(count),), 40)
    assert card.asked == [16, 8, 4]
    assert [str(warning.message) for warning in told] == [
        "memory ran out: images are sampled 8 at a time from now on",
        "memory ran out: images are sampled 4 at a time from now on",
    ]
    at_once.attempt(lambda count: (card.run(count),), 40)
    at_once.attempt(lambda count: (card.run(count),), 40, asked=30)
    assert card.asked[3:] == [4, 4]
    card.total = 100
    assert at_once.attempt(lambda count: count, 3) == 3  # no more than there are


def test_more_may_be_asked_for_as_long_as_it_fits():
    assert AtOnce(16, "sampled").attempt(lambda count: count, 40, asked=24) == 24


@silent
@given(total=st.integers(0, 40), count=st.integers(1, 50), memory=st.integers(1, 60))
def test_portions_are_all_rows_once_and_in_order(total, count, memory):
    card, rows, at_once = Card(memory), list(range(total)), AtOnce(count, "judged")

    def run(part):
        card.run(part.stop - part.start)
        return rows[part]

    parts = [found for _, found in at_once.portions(run, total, CPU)]
    assert [row for part in parts for row in part] == rows
    sizes = [len(part) for part in parts]
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True) and max(sizes, default=1) <= min(count, memory)
    asked = len(card.asked)
    list(at_once.portions(run, total, CPU))
    assert len(card.asked) - asked <= len(parts) + 1  # what did not fit is not tried again


@silent
def test_a_card_too_small_for_one_is_one_line():
    with pytest.raises(
        UserError, match=r"^cpu has too little free memory for one image to be judged: free some"
    ):
        list(AtOnce(4, "judged").portions(lambda part: Card(0).run(1), 3, CPU))


def test_a_card_is_asked_for_what_it_has_and_what_a_call_held(monkeypatch):
    held = {"now": 5, "most": 5}
    card = torch.device("cuda:1")

    def call():
        held["most"] = 12

    def reset(device):
        held["most"] = held["now"]

    freed = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(True))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: {card: (70, 100)}[device])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: held["now"])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: held["most"])
    assert CudaMemory(card).free() == 70 and freed
    assert CudaMemory(card).used_by(call) == 7
