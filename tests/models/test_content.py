import torch

from fairbench.models.content import content_sha256
from fairbench.models.loading import load_model
from fairbench.models.text_to_image import TextToImage
from tests.tiny import save_tiny, tiny_pipeline


def made(scheduler="ddim", seed=0):
    return TextToImage(tiny_pipeline(scheduler, seed), "any name")


def test_the_same_content_has_the_same_hash_wherever_it_lies(tmp_path):
    places = [load_model(str(save_tiny(tmp_path / name)), device="cpu") for name in ("a", "b")]
    assert len({content_sha256(model) for model in places}) == 1


def test_whatever_changes_the_pictures_changes_it():
    nudged, more_words = made(), made()
    with torch.no_grad():
        nudged.pipeline.vae.decoder.conv_out.bias[0] += 1e-6
    more_words.pipeline.tokenizer.add_tokens("<new>")
    models = [made(), made("dpm"), made(seed=1), nudged, more_words]
    assert len({content_sha256(model) for model in models}) == len(models)
