import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file

from fairbench.errors import UserError
from fairbench.judges import load_judge
from tests.judges.checkpoints import (
    PROMPTS,
    normalised,
    write_judge,
)


def test_clip_counts_the_nearest_prompts(folder, clip, images):
    judge = load_judge(
        write_judge(folder / "clip.yaml", {"kind": "open_clip", "source": "clip", "attributes": PROMPTS})
    )
    tokenizer = SimpleTokenizer()
    with torch.no_grad():
        texts = F.normalize(
            clip.encode_text(tokenizer(["a photo of a woman", "a photo of a man", "a boy"])), dim=1
        )
        directions = F.normalize(torch.stack([texts[0], (texts[1] + texts[2]) / 2]), dim=1)
        seen = F.normalize(
            clip.encode_image(normalised(images, [0.48, 0.46, 0.41], [0.27, 0.26, 0.28])), dim=1
        )
        expected = (clip.logit_scale.exp() * seen @ directions.T).softmax(1)
    torch.testing.assert_close(judge.judge(images).probabilities["gender"], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_cfg": None}, "must hold model_cfg"),
        ({"preprocess_cfg": {}}, "preprocess_cfg with mean and std"),
        ({"text_cfg": {"hf_tokenizer_name": "org/name"}}, "a tokenizer of its own"),
        ({"text_cfg": {"context_length": 4}}, "reads 4 tokens, but the prompt 'a photo of a woman' has 7"),
        ({"vision_cfg": {"timm_model_name": "resnet18"}}, "take out timm_model_name"),
        ({"attributes": {"gender": {"female": "a woman", "male": []}}}, "at least one"),
    ],
)
def test_a_clip_that_cannot_be_read_faithfully_is_refused(folder, clip, tmp_path, change, message):
    shutil.copytree(folder / "clip", tmp_path / "clip")
    path = tmp_path / "clip" / "open_clip_config.json"
    config = json.loads(path.read_text())
    for part in ("text_cfg", "vision_cfg"):
        config["model_cfg"][part] |= change.get(part, {})
    path.write_text(json.dumps(config | {key: change[key] for key in change.keys() & config.keys()}))
    if change.get("text_cfg", {}).get("context_length"):
        tensors = load_file(tmp_path / "clip" / "open_clip_model.safetensors")
        tensors["positional_embedding"] = tensors["positional_embedding"][:4].clone()
        save_file(tensors, tmp_path / "clip" / "open_clip_model.safetensors")
    settings = {"kind": "open_clip", "source": "clip", "attributes": change.get("attributes", PROMPTS)}
    with pytest.raises(UserError) as error:
        load_judge(write_judge(tmp_path / "mine.yaml", settings))
    assert message in str(error.value) and "\n" not in str(error.value)
