"""A world small enough to run through in seconds: random model, judges and features, jobs, one method."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from fairbench.config import RunConfig
from fairbench.features import build_features, save_features
from fairbench.judges import build_judge, save_judge
from tests.tiny import save_tiny, tiny_tokenizer

ATTRIBUTES = {"gender": ["female", "male"], "race": ["WMELH", "Black", "Indian", "Asian"]}
SUITE = """
name: jobs
version: '1'
licence: MIT
source: made up
placeholder: job
templates: ['face of a {job}']
splits: {train: [vet, spy], validation: [dj], test: [cook, maid]}
"""
SIZES = {"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1], "stem_width": 8}
METHOD = '''
from contextlib import contextmanager

import torch
from pydantic import BaseModel, ConfigDict

from fairbench.intervention import Intervention
from fairbench.models.hooks import Conditioning, Hooks


class Nudge:
    """Moves the prompt embeddings a little."""

    name = "nudge"
    draw_class = "emergent"

    class Config(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")

        updates: int = 3
        size: float = 0.5

    def __init__(self, config):
        self.config = config

    def fit(self, context):
        for update in range(1, context.updates + 1):
            if context.log({"update": update, "loss": 1 / update, "gap_gender": 0.5}):
                break
        return Intervention(self.name, self.draw_class, {"size": torch.tensor(self.config.size)}, {})

    @contextmanager
    def apply(self, intervention, model, draw):
        size = intervention.tensors["size"]
        yield Hooks(embed=lambda c, *_: Conditioning(c.conditional + size, c.unconditional))
'''


@dataclass(frozen=True)
class Small:
    """Where everything lies."""

    root: Path

    def settings(self, **changes):
        """Settings of a run of a few seconds, as a mapping."""
        return {
            "method": "nudge",
            "model": str(self.root / "model"),
            "suite": str(self.root / "jobs.yaml"),
            "images_per_prompt": 3,
            "steps": 2,
            "guidance": 2.0,
            "judges": [str(self.root / "judge-a"), str(self.root / "judge-b")],
            "training_judge": str(self.root / "judge-train"),
            "features": [str(self.root / "clip"), str(self.root / "ssl")],
            "training_features": [str(self.root / "ssl-train")],
        } | changes

    def config(self, **changes):
        return RunConfig(**self.settings(**changes))


def renamed(judge, place, name):
    """Copy a judge to ``place`` under another name."""
    shutil.copytree(judge, place)
    description = json.loads((place / "judge.json").read_text())
    (place / "judge.json").write_text(json.dumps(description | {"name": name}))
    return str(place)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("small"))


def build(root):
    """Put everything into ``root``, which may not be there yet."""
    root.mkdir(parents=True, exist_ok=True)
    save_tiny(root / "model")
    (root / "jobs.yaml").write_text(SUITE)
    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng(devices=[]):
        for seed, name in enumerate(("judge-train", "judge-a", "judge-b")):
            torch.manual_seed(seed)
            attributes = ATTRIBUTES | {"concept": ["cook", "vet"]}
            description = {"name": name, "role": "evaluation", "architecture": "resnet18", "kwargs": SIZES}
            save_judge(build_judge(description | {"attributes": attributes}), root / name, {})
        ssl = {"name": "ssl", "kind": "timm", "architecture": "resnet18", "kwargs": SIZES}
        save_features(build_features(ssl), root / "ssl", {})
        text = {"context_length": 16, "vocab_size": len(tokenizer), "width": 16, "heads": 2, "layers": 1}
        vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32}
        clip = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
        pair = build_features({"name": "clip", "kind": "open_clip", "kwargs": clip}, tokenizer)
        save_features(pair, root / "clip", {})
        save_features(build_features(ssl | {"name": "ssl-train"}), root / "ssl-train", {})
    plugin = root / "plugin"
    info = plugin / "nudge-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nudge\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fairbench.methods]\nnudge = nudge_method:Nudge\n")
    (plugin / "nudge_method.py").write_text(METHOD)
    return Small(root)


@pytest.fixture
def small(built, monkeypatch):
    """The small world, with its method installed for the length of one test."""
    monkeypatch.syspath_prepend(built.root / "plugin")
    return built
