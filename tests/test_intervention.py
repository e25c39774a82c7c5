import json

import pytest
import torch

from fairbench.errors import UserError
from fairbench.intervention import Intervention
from fairbench.intervention_files import load_intervention, save_intervention


def test_what_is_saved_is_loaded(tmp_path):
    pair = {f"text_encoder.a.lora_{half}.weight": torch.rand(2, 3) for half in "AB"}
    saved = Intervention("some", "emergent", pair, {"rank": 2})
    save_intervention(saved, tmp_path)
    loaded = load_intervention(tmp_path)
    assert (loaded.method, loaded.draw_class, loaded.settings) == ("some", "emergent", {"rank": 2})
    assert loaded.tensors.keys() == saved.tensors.keys()
    assert all(torch.equal(loaded.tensors[name], saved.tensors[name]) for name in saved.tensors)


@pytest.mark.parametrize(
    ("names", "file"),
    [
        (["unet.a.lora_A.weight", "unet.a.lora_B.weight"], "pytorch_lora_weights.safetensors"),
        (["unet.a.attn2.to_k.weight"], "matrices.safetensors"),
        (["unet.a.lora_A.weight", "projection"], "tensors.safetensors"),
    ],
)
def test_weights_are_in_a_file_that_says_what_they_are(names, file, tmp_path):
    save_intervention(Intervention("some", "emergent", {name: torch.ones(1) for name in names}), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {file, "intervention.json", "README.md"}
    assert load_intervention(tmp_path).tensors.keys() == set(names)


def test_matrices_that_were_saved_as_a_lora_once_are_still_loaded(tmp_path):
    save_intervention(Intervention("uce", "emergent", {"unet.a.attn2.to_k.weight": torch.ones(1)}), tmp_path)
    (tmp_path / "matrices.safetensors").rename(tmp_path / "pytorch_lora_weights.safetensors")
    settings = tmp_path / "intervention.json"
    settings.write_text(settings.read_text().replace("matrices.safe", "pytorch_lora_weights.safe"))
    assert load_intervention(tmp_path).tensors.keys() == {"unet.a.attn2.to_k.weight"}


def test_a_file_that_fairbench_did_not_name_is_not_opened(tmp_path):
    save_intervention(Intervention("some", "drawn", {"x": torch.ones(1)}), tmp_path)
    settings = tmp_path / "intervention.json"
    settings.write_text(settings.read_text().replace("tensors.safe", "../tensors.safe"))
    with pytest.raises(UserError, match="not an adapter"):
        load_intervention(tmp_path)


def test_without_weights_there_is_only_the_description(tmp_path):
    save_intervention(Intervention("some", "drawn"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"intervention.json", "README.md"}
    assert load_intervention(tmp_path) == Intervention("some", "drawn")


def test_a_bad_directory_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_intervention(tmp_path)
    for content in ("{", "[]", "{}", json.dumps({"schema_version": 99, "draw_class": "drawn"})):
        (tmp_path / "intervention.json").write_text(content)
        with pytest.raises(UserError) as error:
            load_intervention(tmp_path)
        assert "\n" not in str(error.value)


def test_broken_weights_are_one_line(tmp_path):
    save_intervention(Intervention("some", "drawn", {"x": torch.ones(1)}), tmp_path)
    (tmp_path / "tensors.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"tensors.safetensors: cannot be read") as refused:
        load_intervention(tmp_path)
    assert "\n" not in str(refused.value)


def test_soft_tokens_have_a_file_of_their_own(tmp_path):
    saved = Intervention("some", "emergent", embeddings={"<x>": torch.rand(2, 3)})
    save_intervention(saved, tmp_path)
    loaded = load_intervention(tmp_path)
    assert loaded.tensors == {} and torch.equal(loaded.embeddings["<x>"], saved.embeddings["<x>"])
    assert {path.name for path in tmp_path.iterdir()} >= {"learned_embeds.safetensors", "README.md"}
