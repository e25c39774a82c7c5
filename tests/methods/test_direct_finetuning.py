"""What every method of direct finetuning has in common: it learns, leaves no trace, resumes and travels."""

from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline
from pydantic import ValidationError

from fairbench.errors import UserError
from fairbench.finetuning.batches import Batches
from fairbench.finetuning.faces import WholePictures
from fairbench.intervention import Intervention
from fairbench.intervention_files import load_intervention, save_intervention
from fairbench.methods.alignprop import AlignProp
from fairbench.methods.biased_dft import BiasedDFT
from fairbench.methods.draft_k import DraftK
from fairbench.methods.drtune import DRTune
from fairbench.methods.naive_dft import NaiveDFT
from fairbench.methods.prompt_prefix import PromptPrefix
from fairbench.methods.refl import ReFL
from fairbench.models.text_to_image import NO_HOOKS
from tests.finetuning.stand_ins import Coarse, make_context, tiny_model
from tests.tiny import save_tiny

SMALL = {"prompts_per_update": 2, "images_per_prompt": 4, "noises_per_prompt": 4, "steps": 3}
METHODS = [
    (NaiveDFT, {}),
    (DraftK, {"last": 2}),
    (DraftK, {"noisings": 2}),
    (AlignProp, {"truncation": "uniform"}),
    (DRTune, {"trained": 1}),
    (ReFL, {}),
    (PromptPrefix, {"timesteps_per_update": None}),
]
PROMPTS = ["face of a nurse", "face of a cook"]


def make(method, **settings):
    return method(method.Config(**SMALL | settings))


def generated(model, hooks=NO_HOOKS):
    return model.generate(PROMPTS, range(2), hooks=hooks)


@pytest.mark.parametrize(("method", "settings"), METHODS)
def test_the_loss_falls_and_the_model_is_left_as_it_was(tmp_path, method, settings):
    rows, model = [], tiny_model()
    before = generated(model)
    context = make_context(tmp_path, model, target="gender=0/1", updates=4, log=rows.append)
    context = replace(context, prompts=context.prompts[:1])  # the same images in every update
    fitted = make(method, **settings, image_weight=0, learning_rate=0.03, optimizer="adamw")
    intervention = fitted.fit(context)
    losses = [row["loss_alignment"] for row in rows]
    assert min(losses[1:]) < losses[0], losses
    assert torch.equal(generated(model), before)
    with fitted.apply(intervention, model) as hooks:
        assert not torch.equal(generated(model, hooks), before)
    assert torch.equal(generated(model), before)
    visited = [norm > 0 for norm in rows[0]["step_norms"]]
    assert len(visited) == 3 and any(visited)
    assert rows[0].keys() >= {"confidence_gender", "undecided_gender", "targeted_gender", "seconds_loss"}


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (BiasedDFT, {"tune": "text_encoder"}),
        (BiasedDFT, {"tune": "unet"}),
        (BiasedDFT, {"tune": "text_encoder+unet"}),
        (PromptPrefix, {}),
    ],
)
def test_every_part_travels_into_a_plain_pipeline(tmp_path, method, settings):
    model = tiny_model("dpm")
    fitted = make(method, **settings, learning_rate=0.05, timesteps_per_update=2)
    save_intervention(fitted.fit(make_context(tmp_path / "training", model, updates=3)), tmp_path / "adapter")
    intervention = load_intervention(tmp_path / "adapter")
    with fitted.apply(intervention, model) as hooks:
        ours = generated(model, hooks)
    plain = StableDiffusionPipeline.from_pretrained(
        save_tiny(tmp_path / "model", "dpm"), safety_checker=None, requires_safety_checker=False
    )
    if intervention.embeddings:
        plain.load_textual_inversion(str(tmp_path / "adapter"), weight_name="learned_embeds.safetensors")
    else:
        plain.load_lora_weights(str(tmp_path / "adapter"))
    plain.set_progress_bar_config(disable=True)
    theirs = plain(
        ["".join(intervention.embeddings) + prompt for prompt in PROMPTS],
        num_inference_steps=model.defaults.steps,
        guidance_scale=model.defaults.guidance,
        generator=[torch.Generator().manual_seed(seed) for seed in range(2)],
        output_type="pt",
    ).images
    assert (ours - generated(model)).abs().max() > 4 / 255
    assert (ours - theirs).abs().max() <= 2 / 255


def test_resuming_with_other_settings_says_which(tmp_path):
    context = make_context(tmp_path, updates=1)
    make(BiasedDFT, timesteps_per_update=2).fit(context)
    with pytest.raises(UserError, match=r"learning_rate is 5e-05 there and 0\.1 here"):
        make(BiasedDFT, timesteps_per_update=2, learning_rate=0.1).fit(context)
    with pytest.raises(UserError, match=r"target is \{'gender': \[0\.5, 0\.5\]\} there and"):
        make(BiasedDFT, timesteps_per_update=2).fit(make_context(tmp_path, updates=1, target="gender=0/1"))
    make(BiasedDFT, timesteps_per_update=2, rows=3, pictures_at_once=3).fit(context)  # the same result


def test_portions_do_not_change_an_update(tmp_path):
    tensors = [
        make(BiasedDFT, timesteps_per_update=2, learning_rate=1e-4, optimizer="sgd", clip=None, **portions)
        .fit(make_context(tmp_path / str(place), updates=1))
        .tensors
        for place, portions in enumerate(({}, {"rows": 5, "pictures_at_once": 3}))
    ]
    for name, value in tensors[0].items():
        torch.testing.assert_close(tensors[1][name], value, rtol=1e-5, atol=1e-9)


def test_faces_are_kept_or_real_if_asked_for(tmp_path):
    """In the first update every picture is its original, which alone is clamped to what can be shown."""
    rows = []
    real = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    context = make_context(
        tmp_path,
        updates=1,
        log=rows.append,
        attributes="gender,race",
        target="gender=0/1,race=0/1/0/0",
        faces=WholePictures(Coarse(), lambda: real),
    )
    fitted = make(
        BiasedDFT,
        timesteps_per_update=2,
        face_weight=0.5,
        face_confidence=0.46,
        region_factor=0.2,
        change_factor={"race": 0.6},
        learning_rate=1e-9,
    )
    fitted.fit(context)
    batch = Batches(context, 2, 4, 4)[0]
    model = tiny_model()
    before = model.generate(batch.texts, batch.seeds, steps=3, guidance=3.0)
    with torch.no_grad():
        final = model.rollout(model.encode(batch.texts), batch.seeds, steps=3, guidance=3.0).final
        images = model.decode(final)
    judged = context.judge.logits(before)
    faces, originals, theirs = (
        torch.nn.functional.normalize(Coarse()(x)).double().numpy() for x in (images, before, real)
    )
    expected, kept = 0.0, []
    for i, face in enumerate(faces):
        sure = [
            int(judged[name][i].argmax()) == wanted and judged[name][i].softmax(0).max() >= 0.46
            for name, wanted in (("gender", 1), ("race", 1))
        ]
        if judged["face"][i] > 0:
            kept.append(all(sure))
            near = face @ originals[i] if all(sure) else max(face @ other for other in theirs)
            expected += (1 - near) / len(images)
    assert any(kept) and not all(kept)
    (row,) = rows
    assert row["loss_face"] == pytest.approx(expected, rel=1e-3)
    parts = row["loss_alignment"] + 8 * row["loss_semantics"] + 0.5 * row["loss_face"]
    assert row["loss"] == pytest.approx(parts, rel=1e-4)
    with pytest.raises(UserError, match="tiny brings none"):
        make(BiasedDFT, face_weight=1.0).fit(make_context(tmp_path / "other"))


def test_text_tuning_leaves_the_unet_without_gradient_and_unet_tuning_the_text_encoder(tmp_path, monkeypatch):
    from fairbench.finetuning import engine

    seen = {}

    def look(self, accumulate):
        row = accumulate(self.state.update)
        for name in ("text_encoder", "unet"):
            network = getattr(model.pipeline, name)
            seen[name] = {key for key, weight in network.named_parameters() if weight.grad is not None}
        self._optimiser.zero_grad()
        return row, 1.0

    monkeypatch.setattr(engine.Training, "_gradient", look)
    for tune, other in (("text_encoder", "unet"), ("unet", "text_encoder")):
        model = tiny_model()
        make(BiasedDFT, tune=tune, timesteps_per_update=2).fit(
            make_context(tmp_path / tune, model, updates=1)
        )
        assert not seen[other] and seen[tune] and all("lora" in key for key in seen[tune])


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (BiasedDFT, {"tune": "prefix", "rank": 8}),
        (PromptPrefix, {"rank": 8}),
        (PromptPrefix, {"tune": "unet"}),
        (DraftK, {"last": 2, "noisings": 2}),
        (DraftK, {"last": 0}),
        (BiasedDFT, {"mode": "exact"}),
        (NaiveDFT, {"timesteps_per_update": 2}),
        (AlignProp, {"truncation": "never"}),
        (ReFL, {"late": 0}),
        (DRTune, {"early": 1.5}),
        (NaiveDFT, {"optimizer": "adamw4bit"}),
        (NaiveDFT, {"lr_schedule": "sine"}),
        (NaiveDFT, {"rows": "all"}),
        (NaiveDFT, {"rows": 0}),
        (NaiveDFT, {"warmup": -1}),
        (NaiveDFT, {"clip": 0}),
        (NaiveDFT, {"region_factor": 2}),
        (NaiveDFT, {"change_factor": {"gender": -1}}),
        (NaiveDFT, {"face_weight": float("inf")}),
    ],
)
def test_contradictions_and_bad_values_are_refused(method, settings):
    with pytest.raises(ValidationError):
        method.Config(**settings)


@pytest.mark.parametrize(
    ("method", "settings"), [(DraftK, {"last": 9}), (DRTune, {"trained": 9}), (NaiveDFT, {"steps": 2000})]
)
def test_what_does_not_fit_the_sampler_is_found_before_training(method, settings):
    with pytest.raises(UserError, match=r"at most|from 1 to 1000"):
        make(method, **settings).check(tiny_model())


def test_soft_tokens_of_another_model_are_refused():
    wide = Intervention("prompt_prefix", "emergent", embeddings={"<fairbench>": torch.zeros(5, 24)})
    with (
        pytest.raises(UserError, match="24 wide, its text encoder's 16"),
        make(PromptPrefix).apply(wide, tiny_model()),
    ):
        pass
