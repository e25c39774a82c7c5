from hypothesis import given
from hypothesis import strategies as st

from fairbench.finetuning.batches import Batches
from fairbench.seeding import image_seed
from tests.finetuning.stand_ins import make_context


def test_a_batch_depends_on_seed_and_update_alone(tmp_path):
    one, again = (Batches(make_context(tmp_path), 2, 3, 8) for _ in range(2))
    later, sooner = one[7], one[2]
    assert (again[7].texts, again[7].seeds) == (later.texts, later.seeds)
    assert (sooner.texts, sooner.seeds) != (later.texts, later.seeds)
    other = Batches(make_context(tmp_path, seed=1), 2, 3, 8)[7]
    assert other.seeds != later.seeds


def test_the_base_seed_decides_the_order_of_the_prompts_and_which_noises_of_the_bank_they_get(tmp_path):
    def drawn(seed):
        context = make_context(tmp_path, model=object(), seed=seed)
        place = {
            image_seed("tiny", "1", prompt.id, index, seed): index
            for prompt in context.prompts
            for index in range(8)
        }
        batches = [Batches(context, 5, 3, 8)[update] for update in range(4)]
        noises = [tuple(place[number] for number in batch.seeds) for batch in batches]
        return [tuple(batch.texts[::3]) for batch in batches], noises

    (order, noises), (other_order, other_noises) = drawn(0), drawn(1)
    assert order != other_order and noises != other_noises
    assert len(set(order)) > 1 and len(set(noises)) > 1  # nor is every epoch the same


@given(prompts=st.integers(1, 7), images=st.integers(1, 5), extra=st.integers(0, 4))
def test_prompts_come_in_epochs_and_noise_out_of_their_bank(tmp_path_factory, prompts, images, extra):
    context = make_context(tmp_path_factory.getbasetemp(), model=object())
    bank = {
        prompt.text: {image_seed("tiny", "1", prompt.id, index, 0) for index in range(images + extra)}
        for prompt in context.prompts
    }
    batches = Batches(context, prompts, images, images + extra)
    at_once = min(prompts, len(context.prompts))
    seen = []
    for update in range(len(context.prompts) // at_once):
        batch = batches[update]
        assert len(batch.texts) == len(batch.seeds) == at_once * images
        assert len(set(zip(batch.texts, batch.seeds, strict=True))) == len(batch.seeds)
        assert all(seed in bank[text] for text, seed in zip(batch.texts, batch.seeds, strict=True))
        seen += batch.texts[::images]
    assert len(set(seen)) == len(seen)


@given(prompts=st.integers(1, 5), count=st.integers(1, 5))
def test_the_shares_of_several_processes_are_the_whole(tmp_path_factory, prompts, count):
    batch = Batches(make_context(tmp_path_factory.getbasetemp(), model=object()), prompts, 2, 3)[0]
    shares = [batch.share(index, count) for index in range(count)]
    images = sorted(pair for share in shares for pair in zip(share.texts, share.seeds, strict=True))
    assert images == sorted(zip(batch.texts, batch.seeds, strict=True))
    assert all(share.total == batch.total == 2 * prompts for share in shares)
    assert all(len(set(share.texts)) * 2 == len(share.texts) for share in shares)
