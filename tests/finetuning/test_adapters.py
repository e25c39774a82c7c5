import pytest
import torch
from diffusers.training_utils import EMAModel

from fairbench.finetuning.adapters import RunningAverage, adapter, shared_words
from fairbench.models.hooks import Hooks
from fairbench.models.soft_tokens import in_front, soft_tokens
from fairbench.models.weights import lora_weights
from tests.finetuning.stand_ins import tiny_model

TEXTS = ["face of a nurse"]


def embedding(model):
    with torch.no_grad():
        return model.encode(TEXTS).conditional


def test_training_starts_at_the_original_and_leaves_it_as_it_was():
    model = tiny_model()
    before, state = embedding(model), dict(model.pipeline.text_encoder.state_dict())
    with adapter(model, "text_encoder", 4, seed=0) as lora:
        assert torch.equal(embedding(model), before)
        for parameter in lora.parameters.values():
            torch.nn.init.normal_(parameter)
        assert not torch.equal(embedding(model), before)
        with lora.off():
            assert torch.equal(embedding(model), before)
        assert not torch.equal(embedding(model), before)
    assert torch.equal(embedding(model), before)
    after = model.pipeline.text_encoder.state_dict()
    assert after.keys() == state.keys() and all(torch.equal(after[name], state[name]) for name in state)


@pytest.mark.parametrize("tune", ["text_encoder", "unet", "text_encoder+unet", "prefix"])
def test_what_is_exported_does_what_was_trained(tune):
    """At the same scale: a plain pipeline reads no other one out of the weights."""
    model = tiny_model()
    with adapter(model, tune, None if tune == "prefix" else 4, seed=0) as tuned:
        for number, parameter in enumerate(tuned.parameters.values()):
            generator = torch.Generator().manual_seed(number)
            parameter.data = torch.randn(parameter.shape, generator=generator) / 2
        trained = seen(model, tuned.hooks)
        exported = tuned.exported(tuned.parameters)
    tensors, embeddings = exported.get("tensors", {}), exported.get("embeddings", {})
    with lora_weights(model, tensors), soft_tokens(model, embeddings):
        hooks = Hooks(rewrite=in_front("".join(embeddings))) if embeddings else Hooks()
        torch.testing.assert_close(seen(model, hooks), trained, rtol=1e-4, atol=1e-5)
    assert (seen(model, Hooks()) - trained).abs().max() > 1e-2


def seen(model, hooks):
    """Return the prompt's embedding, and what the U-Net predicts by it, as one vector."""
    with torch.no_grad():
        conditioning = model.condition(TEXTS, [0], hooks)
        noise = model.predict_noise(model.noise([0]), torch.tensor(500), conditioning, 3.0)
    return torch.cat([conditioning.conditional.flatten(), noise.flatten()])


def test_all_attention_and_feed_forward_layers_are_tuned_and_nothing_else():
    model = tiny_model()
    with adapter(model, "text_encoder", 4, seed=0) as lora:
        layers = {name.split(".lora_")[0].split(".")[-1] for name in lora.parameters}
        trained = [p for p in model.pipeline.text_encoder.parameters() if p.requires_grad]
    assert layers == {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}
    assert len(lora.parameters) == 2 * 6 * 2 == len(trained)


def test_the_start_is_seeded_and_draws_from_no_other_stream():
    starts = []
    for seed in (0, 0, 1):
        torch.manual_seed(99)
        with adapter(tiny_model(), "text_encoder", 4, seed) as lora:
            starts.append(torch.cat([p.detach().flatten() for p in lora.parameters.values()]))
        after = torch.rand(1)
    torch.manual_seed(99)
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])
    assert torch.equal(after, torch.rand(1))


def test_the_running_average_follows_its_recursion():
    values = [1.0, 5.0, -2.0, 4.0]
    parameter = torch.tensor([values[0]])
    average, expected = RunningAverage({"x": parameter}, 0.3), values[0]
    for count, value in enumerate(values[1:], start=1):
        parameter.fill_(value)
        average.update({"x": parameter}, count)
        decay = min(0.3, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(average.values["x"], torch.tensor([expected]))


@pytest.mark.parametrize("decay", [0.3, 0.996])
def test_the_running_average_is_that_of_diffusers_with_the_beginning_for_its_first_update(decay):
    values = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).cumsum(0)
    parameter = torch.nn.Parameter(values[0].clone())
    ours, theirs = RunningAverage({"x": parameter}, decay), EMAModel([parameter], decay)
    theirs.step([parameter])
    for count, value in enumerate(values[1:], start=1):
        parameter.data.copy_(value)
        ours.update({"x": parameter}, count)
        theirs.step([parameter])
    torch.testing.assert_close(ours.values["x"], theirs.shadow_params[0])


def test_on_a_steady_way_it_lags_a_tenth_of_an_update_behind_that_of_diffusers():
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    ours, theirs = RunningAverage({"x": parameter}, 0.996), EMAModel([parameter], 0.996)
    for count in range(1, 151):
        parameter.data.fill_(count)
        ours.update({"x": parameter}, count)
        theirs.step([parameter])
    gap = theirs.shadow_params[0].item() - ours.values["x"].item()
    assert gap == pytest.approx(0.1) and gap / 135 == pytest.approx(0.0007, abs=5e-5)


@pytest.mark.parametrize("tune", ["unet", "text_encoder+unet", "prefix"])
def test_every_part_begins_as_told_and_comes_out_again(tune):
    model = tiny_model()
    networks = (model.pipeline.text_encoder, model.pipeline.unet)
    before = [dict(network.state_dict()) for network in networks]
    attributes = [set(vars(network)) for network in networks]
    picture, tokenizer = model.generate(TEXTS, [0]), model.pipeline.tokenizer
    with adapter(model, tune, None if tune == "prefix" else 2, seed=0) as tuned:
        layers = {name.split(".lora_")[0].split(".", 1)[-1].split(".")[-1] for name in tuned.parameters}
        for parameter in tuned.parameters.values():
            torch.nn.init.normal_(parameter)
        assert not torch.equal(model.generate(TEXTS, [0], hooks=tuned.hooks), picture)
        with tuned.off():
            assert torch.equal(model.generate(TEXTS, [0]), picture)
    assert torch.equal(model.generate(TEXTS, [0]), picture) and model.pipeline.tokenizer is tokenizer
    if "unet" in tune:
        assert {"to_q", "to_k", "to_v", "0"} <= layers
    for network, state, names in zip(networks, before, attributes, strict=True):
        after = network.state_dict()
        assert after.keys() == state.keys() and all(torch.equal(after[name], state[name]) for name in state)
        assert set(vars(network)) == names


def test_soft_tokens_begin_as_the_words_that_most_prompts_share():
    model = tiny_model()
    vocabulary = model.pipeline.tokenizer.get_vocab()
    expected = [vocabulary[word] for word in ("face</w>", "of</w>", "a</w>", "face</w>", "of</w>")]
    for prompts in (["face of a", "face of a"], ["the face of a x", "face of a y", "face of a of a z"]):
        found = shared_words(model, prompts)
        assert found[:3] == expected[:3]
    assert shared_words(model, ["face of a"]) == expected  # three words, over and over
    table = model.pipeline.text_encoder.get_input_embeddings().weight
    with adapter(model, "prefix", None, seed=3, prompts=["face of a"]) as tuned:
        (vectors,) = tuned.parameters.values()
        assert torch.equal(vectors, table[expected])


def test_soft_tokens_are_embeddings_put_in_front_of_the_prompt_but_not_of_the_empty_one():
    model = tiny_model()
    encoder, tokenizer = model.pipeline.text_encoder, model.pipeline.tokenizer
    table = encoder.get_input_embeddings()
    plain = model.encode(TEXTS)
    with adapter(model, "prefix", None, seed=3) as tuned:
        (vectors,) = tuned.parameters.values()
        assert (vectors[:, None] == table.weight).all(2).any(1).all()  # rows of the vocabulary
        torch.nn.init.normal_(vectors)
        found = model.condition(TEXTS, [0], tuned.hooks)
    ids = torch.tensor(tokenizer(TEXTS[0], padding="max_length", max_length=16).input_ids)
    embedded = torch.cat([table(ids[:1]), vectors.detach(), table(ids[1:])])[None, :16]
    with torch.no_grad():  # the manual way: embeddings side by side, through the layers of the encoder
        handle = table.register_forward_hook(lambda module, args, output: embedded)
        expected = encoder(ids[None])[0]
        handle.remove()
    torch.testing.assert_close(found.conditional, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.unconditional, plain.unconditional)
