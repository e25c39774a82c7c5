"""Every way to a model, and one line for every way that leads nowhere."""

import json
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from fairbench.errors import UserError
from fairbench.finetuning.gains import direct_path_gains, step_weights
from fairbench.models import loading
from fairbench.models.content import content_sha256
from fairbench.models.loading import SCHEDULERS, list_models, load_model
from fairbench.models.text_to_image import TextToImage
from tests.tiny import save_tiny, tiny_pipeline

NETWORKS = {"text_encoder": "model", "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "tiny")


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def picture(model: TextToImage) -> torch.Tensor:
    return model.generate(["the face"], [3], steps=3, guidance=3.0)


EXPECTED = picture(TextToImage(tiny_pipeline(), "tiny"))


def test_a_directory_is_opened(directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = load_model(str(directory), device="cpu")
    assert capfd.readouterr() == ("", "")  # no foreign progress bars or remarks
    assert model.name == str(directory)
    assert (model.defaults.steps, model.defaults.guidance) == (30, 7.5)
    assert_close(picture(model), EXPECTED, rtol=0, atol=0)


def test_defaults_come_from_beside_the_model(tmp_path: Path) -> None:
    model = load_model(str(save_tiny(tmp_path / "tiny", steps=12, guidance=3.0)))
    assert (model.defaults.steps, model.defaults.guidance) == (12, 3.0)


# the file that comes with Stable Diffusion 1.5
PNDM = {
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0",
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "trained_betas": None,
    "num_train_timesteps": 1000, "set_alpha_to_one": False, "clip_sample": False, "skip_prk_steps": True,
    "steps_offset": 1,
}  # fmt: skip


@pytest.fixture
def with_pndm(directory: Path) -> str:
    (directory / "scheduler" / "scheduler_config.json").write_text(json.dumps(PNDM))
    edit(directory / "model_index.json", scheduler=["diffusers", "PNDMScheduler"])
    return str(directory)


def test_another_scheduler_takes_the_place_of_the_one_that_comes_with_a_model(with_pndm: str) -> None:
    models = {name: load_model(with_pndm, device="cpu", scheduler=name) for name in (None, *SCHEDULERS)}
    kinds = {name: type(model.pipeline.scheduler).__name__ for name, model in models.items()}
    assert kinds == {
        None: "PNDMScheduler", "ddim": "DDIMScheduler", "ddpm": "DDPMScheduler",
        "dpm": "DPMSolverMultistepScheduler", "euler": "EulerDiscreteScheduler",
    }  # fmt: skip
    for model in models.values():
        trained = [
            model.pipeline.scheduler.config[key] for key in ("beta_start", "beta_end", "beta_schedule")
        ]
        assert trained == [0.00085, 0.012, "scaled_linear"]
        assert picture(model).isfinite().all()
    assert len({content_sha256(model) for model in models.values()}) == len(models)


def test_dpm_is_the_sampler_of_the_authors(with_pndm: str) -> None:
    """Reference: steps and official weights of diffusers 0.19.3 with 20 steps, with which they trained."""
    scheduler = load_model(with_pndm, device="cpu", scheduler="dpm").pipeline.scheduler
    timesteps, gains = direct_path_gains(scheduler, 20)
    assert (timesteps[:2].tolist(), timesteps[-1].item()) == ([999, 949], 50)
    weights = step_weights(timesteps, gains, "official", scheduler)[[0, -4, -3, -2, -1]]
    expected = torch.tensor([-0.217, -0.253, 0.133, 0.298, -2.124], dtype=torch.float64)
    assert_close(weights, expected, rtol=0, atol=1e-3)


def test_half_precision_weights_are_float32_on_a_cpu(directory: Path) -> None:
    for component, stem in NETWORKS.items():
        path = directory / component / f"{stem}.safetensors"
        save_file({key: value.half() for key, value in load_file(path).items()}, path, {"format": "pt"})
    edit(directory / "text_encoder" / "config.json", dtype="float16")
    model = load_model(str(directory), device="cpu")
    parts = (model.pipeline.unet, model.pipeline.vae, model.pipeline.text_encoder)
    assert {weight.dtype for part in parts for weight in part.parameters()} == {torch.float32}
    assert (picture(model) - EXPECTED).abs().max() < 0.02


def test_the_layout_of_published_checkpoints_is_read(directory: Path) -> None:
    """A ``text_model`` level in the text encoder, vocabulary and merges in two files."""
    path = directory / "text_encoder" / "model.safetensors"
    weights = {f"text_model.{key}": value for key, value in load_file(path).items()}
    save_file(
        weights | {"text_model.embeddings.position_ids": torch.arange(16)[None]}, path, {"format": "pt"}
    )
    tokenizer = directory / "tokenizer"
    model = json.loads((tokenizer / "tokenizer.json").read_text())["model"]
    (tokenizer / "tokenizer.json").unlink()
    (tokenizer / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = [
        "#version: 0.2",
        *(merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]),
    ]
    (tokenizer / "merges.txt").write_text("\n".join(lines) + "\n")
    assert_close(picture(load_model(str(directory), device="cpu")), EXPECTED, rtol=0, atol=0)


def test_the_packaged_model_is_found_by_name(
    directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loading, "files", lambda package: tmp_path / package)
    with pytest.raises(
        UserError, match=r"checkpoint is missing: build it with `python -m fairbench.portraits.build`"
    ):
        load_model("portraits")
    (tmp_path / "fairbench.portraits").mkdir()
    directory.rename(tmp_path / "fairbench.portraits" / "checkpoint")
    assert load_model("portraits").name == "portraits"


def test_a_hub_model_is_fetched_at_its_revision_and_as_safetensors(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fnmatch import fnmatch

    asked = {}

    def fetch(repository: str, **how: object) -> str:
        asked.update(how, repository=repository)
        return str(directory)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    model = load_model("org/name@1a2b3c")
    assert model.name == "org/name@1a2b3c"
    assert (asked["repository"], asked["revision"]) == ("org/name", "1a2b3c")
    everything = [str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()]
    extra = ["unet/diffusion_pytorch_model-00001-of-00002.safetensors", "tokenizer/merges.txt"]
    unwanted = [
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "v1-5.ckpt",
        "tokenizer/transformers.py",
    ]
    wanted = {
        name
        for name in everything + extra + unwanted
        if any(fnmatch(name, p) for p in asked["allow_patterns"])
    }
    assert wanted == {*everything, *extra}


def test_offline_is_said_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^nobody/nothing@main is neither in the local cache") as raised:
        load_model("nobody/nothing@main")
    assert "\n" not in str(raised.value)


class Plugin:
    def __init__(self, shade: float = 0.5) -> None:
        self.name, self.shade = "plugin", shade


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = EntryPoints(
        [
            EntryPoint("shades", f"{__name__}:Plugin", loading.ENTRY_POINTS),
            EntryPoint("broken", "no_such_module:Model", loading.ENTRY_POINTS),
        ]
    )
    monkeypatch.setattr(
        loading.importlib.metadata, "entry_points", lambda **selection: entries.select(**selection)
    )


@pytest.mark.usefixtures("plugins")
def test_plugins_are_listed_and_called_with_their_options() -> None:
    assert list_models() == ["broken", "portraits", "shades"]
    assert load_model("shades", shade=0.25).shade == 0.25
    with pytest.raises(UserError, match=r"options of model 'shades'.*'colour'"):
        load_model("shades", colour="red")
    with pytest.raises(UserError, match=r"plugin no_such_module:Model of model 'broken' cannot be imported"):
        load_model("broken")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "portrats",
            r"unknown model 'portrats': did you mean 'portraits'.*, or a directory, or org/name@revision",
        ),
        ("runs/missing", "no directory 'runs/missing'; a Hub model needs a revision: runs/missing@"),
        ("./missing", "unknown model './missing'"),
    ],
)
def test_an_unknown_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devise": "cpu"}, "options of model .*'devise'"),
        ({"device": "warp"}, "device 'warp' cannot be used"),
        ({"dtype": "float8"}, "unknown dtype 'float8'"),
        ({"scheduler": "dpn"}, "unknown scheduler 'dpn': did you mean 'dpm'"),
        ({"device": "cpu", "dtype": "float16"}, "dtype float16 needs a cuda device"),
    ],
)
def test_bad_options_are_refused(directory: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model(str(directory), **options)


@pytest.mark.parametrize(
    ("capability", "precision"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_bfloat16_is_for_cards_that_are_made_for_it(monkeypatch, capability, precision):
    """torch says that a card of 2018 supports it, and means that it makes up for it in software."""
    monkeypatch.setattr(torch, "empty", lambda *_, device: torch.zeros(0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda where: capability)
    assert loading._placement("cuda:1", "auto") == (torch.device("cuda:1"), precision)
    for dtype in (torch.float32, torch.float16):
        assert loading._placement("cuda:1", str(dtype).removeprefix("torch."))[1] == dtype


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def drop_one(path: Path) -> None:
    weights = load_file(path)
    weights.pop(max(weights))
    save_file(weights, path, {"format": "pt"})


RUN_IF_LOADED = """
from pathlib import Path
from transformers import CLIPTokenizer

Path("{}").touch()
"""
DAMAGE = {
    "no index": (
        lambda d: (d / "model_index.json").unlink(),
        "is not a diffusers pipeline: model_index.json: ",
    ),
    "index not JSON": (lambda d: (d / "model_index.json").write_text("{"), "is not a diffusers pipeline"),
    "index not an object": (lambda d: (d / "model_index.json").write_text("[]"), "is not a JSON object"),
    "another pipeline": (
        lambda d: edit(d / "model_index.json", _class_name="StableDiffusionXLPipeline"),
        "is a StableDiffusionXLPipeline: only StableDiffusionPipeline .* not SDXL",
    ),
    "no vae folder": (lambda d: (d / "vae").rename(d / "elsewhere"), "is incomplete: it has no vae"),
    "unet null": (lambda d: edit(d / "model_index.json", unet=[None, None]), "is incomplete: it has no unet"),
    "custom code": (
        lambda d: edit(d / "model_index.json", unet=["my_unet", "MyUNet"]),
        "the unet of .* is a my_unet.MyUNet: .* never run",
    ),
    "code beside a component": (
        lambda d: (d / "tokenizer" / "transformers.py").write_text(RUN_IF_LOADED.format(d / "ran")),
        "transformers.py: code that comes with a model is never run",
    ),
    "pickle": (
        lambda d: (d / "unet" / "diffusion_pytorch_model.safetensors").rename(
            d / "unet" / "diffusion_pytorch_model.bin"
        ),
        "diffusion_pytorch_model.bin is a pickle",
    ),
    "no weights": (
        lambda d: (d / "text_encoder" / "model.safetensors").unlink(),
        "text_encoder is incomplete: it has no model.safetensors",
    ),
    "truncated weights": (
        lambda d: truncate(d / "unet" / "diffusion_pytorch_model.safetensors"),
        "tiny cannot be loaded: ",
    ),
    "a tensor less in the text encoder": (
        lambda d: drop_one(d / "text_encoder" / "model.safetensors"),
        "text_encoder are incomplete: 1 missing, such as final_layer_norm.weight",
    ),
    "a tensor less in the U-Net": (
        lambda d: drop_one(d / "unet" / "diffusion_pytorch_model.safetensors"),
        "unet are incomplete: 1 missing",
    ),
    "wrong width": (
        lambda d: edit(d / "unet" / "config.json", cross_attention_dim=24),
        "tiny cannot be loaded: ",
    ),
    "wrong length": (
        lambda d: edit(d / "tokenizer" / "tokenizer_config.json", model_max_length=77),
        "do not fit together: tokenizer length and text encoder positions are 77 and 16",
    ),
    "bad defaults": (lambda d: (d / "fairbench.json").write_text('{"steps": 0}'), "fairbench.json: steps: "),
    "unreadable defaults": (
        lambda d: (d / "fairbench.json").write_text("steps: 3"),
        "the defaults of .* unreadable",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_directory_that_is_not_a_whole_safe_model_is_refused(directory: Path, damage: str) -> None:
    spoil, message = DAMAGE[damage]
    spoil(directory)
    with pytest.raises(UserError, match=message) as raised:
        load_model(str(directory), device="cpu")
    assert "\n" not in str(raised.value)
    assert not (directory / "ran").exists()


def test_listing_models_needs_no_torch() -> None:
    code = "import sys, fairbench.models.loading as l; l.list_models(); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout == "False\n"


def spoilt(directory, what):
    """A copy of the packaged model as other tools save it."""
    import shutil

    from fairbench.models.loading import model_directory

    shutil.copytree(model_directory("portraits"), directory)
    weights = directory / "unet/diffusion_pytorch_model.safetensors"
    if what == "variant":
        weights.rename(weights.with_suffix(".fp16.safetensors"))
    elif what == "tokenizer":
        (directory / "tokenizer/tokenizer_config.json").unlink()
    elif what == "size":
        file = directory / "unet/config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"sample_size": None}))
    else:
        from diffusers import UNet2DConditionModel
        from peft import LoraConfig

        unet = UNet2DConditionModel.from_pretrained(directory / "unet")
        unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k"]))
        unet.save_pretrained(directory / "unet")
    return directory


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("variant", "only a variant, diffusion_pytorch_model.fp16.safetensors"),
        ("tokenizer", "add its tokenizer_config.json"),
        ("size", "sample_size is None"),
        ("adapter", "hold a LoRA beside the layers"),
    ],
)
def test_the_cause_is_named_where_another_tool_saved_a_model(tmp_path, what, message):
    with pytest.raises(UserError, match=message):
        load_model(str(spoilt(tmp_path / "model", what)), device="cpu")
