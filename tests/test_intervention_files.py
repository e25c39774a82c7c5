import safetensors.torch
import torch

from fairbench.intervention import Intervention
from fairbench.intervention_files import model_card, save_intervention
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
