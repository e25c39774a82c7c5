import pytest
import safetensors.torch
import torch

from fairbench.errors import UserError
from fairbench.intervention import Intervention
from fairbench.intervention_files import load_intervention, model_card, save_intervention
from tests.tiny import tiny_pipeline

SETTINGS = {
    "model": "portraits",
    "attributes": ["gender"],
    "target": {"gender": [0.25, 0.75]},
    "suite": "occupations 1",
    "judge": {"portraits-train": "0" * 64},
    "tune": "text_encoder",
    "updates": 7,
    "seed": 0,
}


def test_a_card_says_what_on_what_how_and_what_not():
    lora = {"text_encoder.a.lora_A.weight": torch.ones(1), "text_encoder.a.lora_B.weight": torch.ones(1)}
    measured = [{"what": "bias gender", "before": "0.80", "after": "0.40"}]
    card = model_card(Intervention("biased_dft", "emergent", lora, SETTINGS), measured)
    for part in (
        "# biased_dft for portraits",
        "| target | gender 0.25 / 0.75 |",
        "| judge it learnt from | portraits-train |",
        'load_lora_weights("this/directory")',
        "| bias gender | 0.80 | 0.40 |",
        "## Limits",
    ):
        assert part in card
    assert "textual_inversion" not in card and card.startswith("---\n")


def test_soft_tokens_stand_in_front_of_the_prompt():
    card = model_card(Intervention("prompt_prefix", "emergent", embeddings={"<x>": torch.ones(2, 3)}))
    assert 'weight_name="learned_embeds.safetensors")' in card and 'pipeline("<x>a photo' in card
    assert "Nothing yet" in card


def test_what_no_pipeline_can_load_is_not_said_to_be_loadable():
    card = model_card(Intervention("other", "drawn", {"matrix": torch.ones(2, 2)}))
    assert "With fairbench alone" in card and "load_lora_weights" not in card


def test_a_word_of_a_class_stands_behind_the_prompt():
    words = {"<w-0>": torch.ones(2, 3), "<w-1>": torch.ones(2, 3)}
    card = model_card(Intervention("iti_gen", "drawn", embeddings=words))
    assert "to be drawn for every image: <w-0>, <w-1>" in card and 'a person <w-0>")' in card


def test_the_lines_of_the_card_put_edited_matrices_into_a_pipeline(tmp_path, monkeypatch):
    pipeline = tiny_pipeline()
    name, weight = next(
        (n, w) for n, w in pipeline.unet.named_parameters() if n.endswith("attn2.to_k.weight")
    )
    edited = torch.rand(weight.shape)
    learnt = Intervention("uce", "emergent", {f"unet.{name}": edited})
    save_intervention(learnt, tmp_path / "this" / "directory")
    monkeypatch.chdir(tmp_path)
    lines = model_card(learnt).partition("```python\n")[2].partition("```")[0].splitlines()
    exec("\n".join(lines[:-1]), {"pipeline": pipeline, "safetensors": safetensors})
    assert torch.equal(pipeline.unet.get_parameter(name), edited)


LAYER = "unet.mid.lora"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "holds nothing"),
        ({f"{LAYER}_A.weight": torch.ones(2, 3)}, f"lacks {LAYER}_B.weight"),
        ({f"{LAYER}_{half}.weight": torch.ones(2, 2).int() for half in "AB"}, "floating-point"),
    ],
    ids=["none", "half", "integers"],
)
def test_an_adapter_that_was_tampered_with_is_refused(tmp_path, tensors, message):
    whole = {f"{LAYER}_{half}.weight": torch.ones(2, 2) for half in "AB"}
    save_intervention(Intervention("biased_dft", "emergent", whole), tmp_path)
    safetensors.torch.save_file(tensors, tmp_path / "pytorch_lora_weights.safetensors")
    with pytest.raises(UserError, match=message):
        load_intervention(tmp_path)


def test_what_a_method_asks_for_in_vain_is_a_fault_of_the_file(tmp_path):
    learnt = Intervention("offset", "drawn", {"basis": torch.ones(2, 2)}, {"strength": 1})
    save_intervention(learnt, tmp_path)
    found = load_intervention(tmp_path)
    assert found.settings == {"strength": 1} and torch.equal(found.tensors["basis"], torch.ones(2, 2))
    with pytest.raises(UserError, match=r"tensors\.safetensors: lacks middle"):
        found.tensors["middle"]
    with pytest.raises(UserError, match=r"intervention\.json: lacks labels"):
        found.settings["labels"]
