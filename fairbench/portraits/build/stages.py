"""The stages of the build in their order; each is skipped when the directory it writes is complete."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from rich.console import Console
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from fairbench.attributes import ATTRIBUTES
from fairbench.errors import UserError
from fairbench.features import ImageFeatures, build_features, load_features, save_features
from fairbench.features.convert import clip_text_model
from fairbench.judges import build_judge, load_judge, save_judge
from fairbench.judges.confusion import write_confusion
from fairbench.models.text_to_image import Defaults, TextToImage
from fairbench.networks import pooled_width
from fairbench.portraits.build.autoencoder import encode, reconstruct, train_autoencoder
from fairbench.portraits.build.card import write_card
from fairbench.portraits.build.contrastive import clip_config, retrieval, train_clip
from fairbench.portraits.build.data import Pictures, load_or_draw
from fairbench.portraits.build.gates import measure_gates
from fairbench.portraits.build.judging import accuracy, confusion, train_judge
from fairbench.portraits.build.loop import Plan
from fairbench.portraits.build.selfsupervised import train_features
from fairbench.portraits.build.tokenizer import build_tokenizer
from fairbench.portraits.build.unet import assemble, train_unet
from fairbench.portraits.captions import neutral
from fairbench.portraits.world import roles
from fairbench.storage import atomic_write_json, atomic_write_tensors

RETRIEVAL_GATE = 0.9
VOCABULARY = 2600
RECONSTRUCTED = 20_000
ENCODED = 64_000
SAMPLING = Defaults(steps=12, guidance=2.0, step_weights="raw", rank=32, learning_rate=2e-3)
PRIMARY_JUDGE = "portraits-eval-a"
JUDGES = ("portraits-train", PRIMARY_JUDGE, "portraits-eval-b", "portraits-eval-c")
console = Console(stderr=True)

PLANS = {
    "clip-train": Plan(1000, 1e-3, weight_decay=0.05, seed=21),
    "clip-eval": Plan(600, 1e-3, weight_decay=0.05, seed=22),
    "autoencoder": Plan(1500, 2e-3, seed=11),
    "autoencoder-refinement": Plan(1500, 1.5e-3, seed=12),
    "unet": Plan(2500, 1.5e-3, seed=31),
    "portraits-train": Plan(600, 2e-3, seed=41),
    "portraits-eval-a": Plan(600, 2e-3, seed=42),
    "portraits-eval-b": Plan(600, 2e-3, seed=43),
    "portraits-eval-c": Plan(600, 2e-3, seed=44),
    "ssl-train": Plan(250, 1e-3, seed=51),
    "ssl-eval": Plan(250, 1e-3, seed=52),
}
CLIP_WIDTHS = {"clip-train": 128, "clip-eval": 96}
RESNET = ("resnet18", {"channels": [16, 32, 64, 128], "layers": [1, 1, 1, 1], "stem_width": 16})
CONVNEXT = (
    "convnext_atto",
    {"depths": [1, 1, 2, 1], "dims": [16, 32, 64, 128], "patch_size": 2, "conv_mlp": True},
)
REGNET = ("regnety_002", {"depth": 6, "w0": 16, "wa": 30.0, "wm": 2.3, "group_size": 8})
DENSENET = ("densenet121", {"growth_rate": 16, "block_config": [2, 3, 4, 3]})
BACKBONES = {
    "portraits-train": RESNET,
    "portraits-eval-a": CONVNEXT,
    "portraits-eval-b": REGNET,
    "portraits-eval-c": DENSENET,
    "ssl-train": RESNET,
    "ssl-eval": CONVNEXT,
}


@dataclass(frozen=True)
class Build:
    """Where the build works (pictures, checkpoints) and where its results go (what the package ships)."""

    work: Path
    out: Path
    count: int

    @cached_property
    def pictures(self) -> Pictures:
        """The training pictures."""
        return load_or_draw(self.work / "pictures", self.count, seed=1)

    @cached_property
    def held_out(self) -> Pictures:
        """Pictures that nothing is trained on."""
        return load_or_draw(self.work / "held_out", 6000, seed=2)

    @cached_property
    def tokenizer(self) -> CLIPTokenizer:
        """The tokenizer, learnt on the captions and on every prompt of the suites."""
        directory = self.work / "tokenizer"
        if directory.exists():
            return CLIPTokenizer.from_pretrained(directory)
        prompts = [neutral(role) for role in roles().values()]
        return build_tokenizer(self.pictures.captions + 50 * prompts, VOCABULARY, directory)

    def clip(self, name: str) -> ImageFeatures:
        """Train a CLIP and let it through only if pictures find the captions of their roles."""
        directory = self.out / "features" / name
        if not (directory / "features.json").exists():
            width = CLIP_WIDTHS[name]
            network = train_clip(name, self.pictures, self.tokenizer, width, PLANS[name], self.work)
            found = retrieval(network, self.tokenizer, self.held_out)
            if found < RETRIEVAL_GATE:
                raise UserError(
                    f"{name}: retrieval {found:.3f} is below {RETRIEVAL_GATE}: give it more steps in PLANS"
                )
            config = {"name": name, "kind": "open_clip", "kwargs": clip_config(self.tokenizer, width)}
            features = build_features(config, self.tokenizer)
            features.network.load_state_dict(network.state_dict())
            save_features(features, directory, {"retrieval": round(found, 4)})
        return load_features(directory)

    @cached_property
    def autoencoder(self) -> AutoencoderKL:
        """The trained autoencoder."""
        directory = self.work / "vae"
        if not (directory / "config.json").exists():
            plans = PLANS["autoencoder"], PLANS["autoencoder-refinement"]
            train_autoencoder(self.pictures, *plans, self.work).save_pretrained(directory)
        return AutoencoderKL.from_pretrained(directory)

    def judge(self, name: str) -> None:
        """Train one judge; its role follows from its name."""
        directory = self.out / "judges" / name
        if (directory / "judge.json").exists():
            return
        role = "train" if name == "portraits-train" else "evaluation"
        architecture, kwargs = BACKBONES[name]
        attributes = {**ATTRIBUTES, "concept": tuple(roles())}
        torch.manual_seed(PLANS[name].seed)
        judge = build_judge(
            {
                "name": name,
                "role": role,
                "architecture": architecture,
                "kwargs": kwargs,
                "attributes": attributes,
            }
        )
        train_judge(judge, self.pictures, self.reconstructed, PLANS[name], self.work)
        save_judge(judge, directory, accuracy(judge, self.held_out), confusion(judge, self.held_out))

    def confusions(self) -> None:
        """Count the errors of judges that were trained before these were kept."""
        for name in JUDGES:
            directory = self.out / "judges" / name
            if not (judge := load_judge(directory)).confusion:
                write_confusion(directory, judge, confusion(judge, self.held_out))

    def self_supervised(self, name: str) -> None:
        """Train one self-supervised feature network."""
        directory = self.out / "features" / name
        if (directory / "features.json").exists():
            return
        architecture, kwargs = BACKBONES[name]
        torch.manual_seed(PLANS[name].seed)
        features = build_features(
            {"name": name, "kind": "timm", "architecture": architecture, "kwargs": kwargs}
        )
        train_features(
            name, features.network, pooled_width(features.network), self.pictures, PLANS[name], self.work
        )
        save_features(features, directory, {})

    @cached_property
    def reconstructed(self) -> torch.Tensor:
        """The first pictures as the autoencoder gives them back, uint8."""
        return reconstruct(self.autoencoder, self.pictures.pixels[:RECONSTRUCTED])

    @cached_property
    def latents(self) -> torch.Tensor:
        """The scaled latents of the first pictures, kept on disk."""
        path = self.work / "latents.safetensors"
        if not path.exists():
            scaled = encode(self.autoencoder, self.pictures.pixels[:ENCODED])
            atomic_write_tensors(path, {"latents": scaled * self.autoencoder.config.scaling_factor})
        return load_file(path)["latents"]

    def pipeline(self) -> None:
        """Train the U-Net on the gated text encoder and save the whole pipeline in half precision."""
        directory = self.out / "checkpoint"
        if (directory / "fairbench.json").exists():
            return
        text_encoder = clip_text_model(self.clip("clip-train").network)
        unet: UNet2DConditionModel = train_unet(
            self.latents, self.pictures, self.tokenizer, text_encoder, PLANS["unet"], self.work
        )
        pipeline = assemble(self.autoencoder, text_encoder, self.tokenizer, unet).to(torch.float16)
        # the place where it was built says nothing about the model
        pipeline.vae.register_to_config(_name_or_path="")
        pipeline.save_pretrained(directory)
        atomic_write_json(directory / "fairbench.json", {"family": "portraits", **SAMPLING.model_dump()})

    def card(self) -> None:
        """Measure the gates and write the model card."""
        from fairbench.models.loading import load_model

        model: TextToImage = load_model(str(self.out / "checkpoint"))
        judge = load_judge(self.out / "judges" / PRIMARY_JUDGE)
        gates = measure_gates(model, judge)
        for gate in gates:
            console.print(f"{gate.what}: {gate.measured:.3f} (needed {gate.least:.2f})")
        networks = {
            path.parent.name: json.loads(path.read_text())["measured"]
            for path in sorted(
                [*self.out.glob("judges/*/judge.json"), *self.out.glob("features/*/features.json")]
            )
        }
        write_card(
            self.out / "checkpoint" / "README.md",
            gates,
            {name: measured for name, measured in networks.items() if measured},
            pictures=self.count,
            steps=", ".join(f"{name} {plan.steps} steps" for name, plan in PLANS.items()),
            sampling=f"{SAMPLING.steps} steps, guidance {SAMPLING.guidance}",
            judge=PRIMARY_JUDGE,
        )

    def run(self) -> None:
        """Run every stage that is not done yet."""
        self.clip("clip-train")
        for name in JUDGES:
            self.judge(name)
        self.confusions()
        self.pipeline()
        self.clip("clip-eval")
        for name in ("ssl-train", "ssl-eval"):
            self.self_supervised(name)
        self.card()
