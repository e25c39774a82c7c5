"""What the package ships: small, safetensors only, and as good as its card says."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

import fairbench.portraits
from fairbench.judges import list_judges, load_judge
from fairbench.models.loading import load_model
from fairbench.portraits.captions import explicit, neutral
from fairbench.portraits.renderer import PortraitsRenderer
from fairbench.portraits.world import role, roles
from fairbench.seeding import image_seed

SHIPPED = Path(fairbench.portraits.__file__).parent
JUDGE = "portraits-eval-a"


@pytest.fixture(scope="module")
def model():
    return load_model("portraits")


def judged(generator, prompts: list[str]):
    seeds = [image_seed("shipped", "1", prompt, index, 0) for index, prompt in enumerate(prompts)]
    return load_judge(JUDGE).judge(generator.generate(prompts, seeds))


def test_everything_is_safetensors_and_at_most_25_megabytes():
    files = [path for room in ("checkpoint", "judges", "features") for path in (SHIPPED / room).rglob("*.*")]
    assert sum(path.stat().st_size for path in files) < 25e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt", ".md"}


def test_the_card_names_every_gate():
    card = (SHIPPED / "checkpoint" / "README.md").read_text(encoding="utf-8")
    for gate in ("occupation recognised", "explicit gender", "explicit race", "explicit age", "P(male)"):
        assert gate in card


def test_the_card_has_what_was_measured_of_every_network():
    from fairbench.portraits.build.stages import PLANS

    card = (SHIPPED / "checkpoint" / "README.md").read_text(encoding="utf-8")
    for path in (*SHIPPED.glob("judges/*/judge.json"), *SHIPPED.glob("features/*/features.json")):
        if measured := json.loads(path.read_text(encoding="utf-8"))["measured"]:
            numbers = ", ".join(f"{name} {value:.3f}" for name, value in measured.items())
            assert f"| {path.parent.name} | {numbers} |" in card
    for name, plan in PLANS.items():
        assert f"{name} {plan.steps} steps" in card


def test_a_plain_diffusers_pipeline_loads_it():
    pipeline = StableDiffusionPipeline.from_pretrained(SHIPPED / "checkpoint", local_files_only=True)
    assert pipeline.tokenizer.model_max_length == 32


def test_occupations_are_recognised(model):
    names = [name for name, entry in roles().items() if entry.kind == "occupation" and entry.split == "test"]
    judgement = judged(model, [neutral(role(name)) for name in names])
    labels = load_judge(JUDGE).attributes["concept"]
    seen = [labels[index] for index in judgement.probabilities["concept"].argmax(1)]
    assert sum(one == other for one, other in zip(seen, names, strict=True)) / len(names) >= 0.85


@pytest.mark.parametrize("label", ["female", "male"])
def test_explicit_prompts_are_obeyed(model, label):
    names = ["senator", "butcher", "violinist", "legal secretary", "sergeant", "health technician"]
    judgement = judged(model, [explicit(role(name), "gender", label) for name in names for _ in range(4)])
    seen = judgement.probabilities["gender"].argmax(1)
    assert (seen == ("female", "male").index(label)).float().mean() >= 0.8


@pytest.mark.parametrize("name", list_judges())
def test_judges_read_rendered_people_as_well_as_their_file_says(name):
    judge, prompts = load_judge(name), [neutral(entry) for entry in roles().values()] * 3
    renderer, seeds = PortraitsRenderer(), range(len(prompts))
    people = renderer.people(prompts, seeds)
    judgement = judge.judge(renderer.generate(prompts, seeds))
    measured = json.loads((SHIPPED / "judges" / name / "judge.json").read_text())["measured"]
    for attribute, least in (("gender", 0.98), ("race", 0.93), ("age", 0.95)):
        truth = torch.tensor([person.attributes[attribute] for person in people])
        assert measured[attribute] >= least
        assert (judgement.probabilities[attribute].argmax(1) == truth).float().mean() >= least - 0.02
