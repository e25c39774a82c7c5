"""Every installed method keeps the contract, and every clause finds the method that breaks it."""

import re
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel, ConfigDict
from transformers import CLIPTextConfig, CLIPTextModel

from fairbench.draws import Draw
from fairbench.errors import UserError
from fairbench.intervention import INTERFACE, Intervention
from fairbench.models.hooks import Conditioning, Hooks
from fairbench.plugins.contract import CLAUSES, contract
from fairbench.plugins.registry import find_method, list_methods, method_in
from fairbench.plugins.trial import World, fingerprint

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def world():
    return World.embedded()


@pytest.mark.slow
@pytest.mark.parametrize("name", [entry.name for entry in list_methods() if entry.problem is None])
def test_every_method_keeps_the_contract(world, name):
    failed = [clause for clause in contract(find_method(name), world) if clause.outcome == "failed"]
    assert not failed


def test_a_method_that_needs_a_longer_text_encoder_keeps_the_contract_on_one(world):
    """The sentence of this one does not fit the embedded model; Stable Diffusion takes 77 tokens."""
    pipeline = world.model.pipeline
    assert outcomes(find_method("ethical_intervention"), world)["fits"].outcome == "skipped"
    encoder, length = pipeline.text_encoder, pipeline.tokenizer.model_max_length
    config = CLIPTextConfig.from_dict(encoder.config.to_dict() | {"max_position_embeddings": 77})
    try:
        pipeline.text_encoder = CLIPTextModel(config).eval().requires_grad_(False)
        pipeline.tokenizer.model_max_length = 77
        found = outcomes(find_method("ethical_intervention"), world)
    finally:
        pipeline.text_encoder, pipeline.tokenizer.model_max_length = encoder, length
    assert found["fits"].outcome == "passed"
    assert "failed" not in {clause.outcome for clause in found.values()}


def test_the_example_of_the_contributing_page_keeps_the_contract(world, tmp_path):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = re.search(r"## Add a method\n.*?```python\n(.*?)```", text, re.DOTALL)[1]
    (tmp_path / "name_it.py").write_text(code)
    found = outcomes(method_in(tmp_path / "name_it.py"), world)
    assert "failed" not in {clause.outcome for clause in found.values()}
    assert found["follows the draw, or ignores it"].outcome == "passed"


def test_every_file_of_methods_and_baselines_is_installed():
    installed = {point.value.partition(":")[0] for point in entry_points(group="fairbench.methods")}
    for folder in ("methods", "baselines"):
        for path in (ROOT / folder).glob("[!_]*.py"):
            assert f"fairbench.{folder}.{path.stem}" in installed


class Push:
    """Move the embeddings by :math:`s`, or for a class.

    Source: nobody.

    Limits: many.
    """

    name, draw_class = "push", "drawn"
    neutral = {"size": 0}  # noqa: RUF012

    class Config(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        updates: int = 0
        size: float = 3

    def __init__(self, config):
        self.config = config

    def fit(self, context):
        generator = torch.Generator().manual_seed(context.seed)
        return Intervention(
            self.name, self.draw_class, {"by": torch.randn(2, 1, 1, 128, generator=generator)}, self.settings
        )

    @property
    def settings(self):
        return {"size": self.config.size}

    @contextmanager
    def apply(self, intervention, model, draw):
        def embed(conditioning, prompts, seeds):
            by = intervention.settings["size"] * intervention.tensors["by"][draw(seeds), 0]
            return Conditioning(conditioning.conditional + by, conditioning.unconditional)

        yield Hooks(embed=embed)


def outcomes(method, world, **options):
    return {clause.name: clause for clause in contract(method, world, options)}


def test_a_good_method_passes_every_clause(world):
    found = outcomes(Push, world)
    assert list(found) == list(CLAUSES)
    assert {clause.outcome for clause in found.values()} == {"passed"}


class Undocumented(Push):
    """Do something."""


class Unlisted(Push):
    __doc__ = Push.__doc__
    draw_class = "free"


class Forgetful(Push):
    __doc__ = Push.__doc__

    def fit(self, context):
        return Intervention(self.name, self.draw_class, {"by": torch.randn(2, 1, 1, 128)}, self.settings)


class Crowded(Push):
    __doc__ = Push.__doc__

    @contextmanager
    def apply(self, intervention, model, draw):
        def embed(conditioning, prompts, seeds):
            return Conditioning(
                conditioning.conditional * (1 + 0.5 * len(seeds)) + draw(seeds)[0], conditioning.unconditional
            )

        yield Hooks(embed=embed)


class Deaf(Push):
    __doc__ = Push.__doc__

    @contextmanager
    def apply(self, intervention, model, draw):
        with super().apply(intervention, model, lambda seeds: [0] * len(seeds)) as hooks:
            yield hooks


class Meddling(Push):
    __doc__ = Push.__doc__

    @contextmanager
    def apply(self, intervention, model, draw):
        weight = model.pipeline.unet.conv_in.weight
        kept = weight.clone()
        weight.add_(0.1)
        with super().apply(intervention, model, draw) as hooks:
            yield hooks
        weight.copy_(kept)  # not reached when generation is interrupted


class Amnesic(Push):
    __doc__ = Push.__doc__

    @contextmanager
    def apply(self, intervention, model, draw):
        self.first = getattr(self, "first", intervention)
        by = intervention.tensors["by"] * (intervention is self.first)
        with super().apply(replace(intervention, tensors={"by": by}), model, draw) as hooks:
            yield hooks


class Restless(Push):
    __doc__ = Push.__doc__
    neutral = {"size": 2}  # noqa: RUF012


class Broken(Push):
    __doc__ = Push.__doc__

    def fit(self, context):
        raise ZeroDivisionError("too small")


@pytest.mark.parametrize(
    ("method", "clause", "detail"),
    [
        (Undocumented, "states equation, source and limits", "no an equation"),
        (Unlisted, "has the interface of a method", "draw_class is 'free'"),
        (Broken, "fits", "ZeroDivisionError: too small"),
        (Forgetful, "is deterministic", "fitting and generating again: pictures differ by up to"),
        (Crowded, "is independent of the batch size", "batches of 1: pictures differ"),
        (Deaf, "follows the draw, or ignores it", "another drawn class gives the same pictures"),
        (Meddling, "leaves the model untouched", "an interrupted apply leaves"),
        (Amnesic, "saves and reloads to the same pictures", "saved and loaded: pictures differ"),
        (Restless, "without strength equals the original", "{'size': 2} against the original"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_each_clause_finds_the_method_that_breaks_it(method, clause, detail):
    found = outcomes(method, World.embedded())[clause]
    assert found.outcome == "failed" and detail in found.detail


def test_what_does_not_apply_is_skipped_with_its_reason(world):
    class Picky(Push):
        __doc__ = Push.__doc__

        def check(self, model):
            raise UserError("needs a larger model")

    found = outcomes(Picky, world)
    assert found["fits"].outcome == "skipped" and found["fits"].detail == "needs a larger model"

    class Coupled(Push):
        __doc__ = Push.__doc__
        draw_class = "coupled"
        neutral = None

    found = outcomes(Coupled, world)
    assert found["is independent of the batch size"].outcome == "skipped"
    assert "neutral" in found["without strength equals the original"].detail


def test_a_wrong_option_is_the_users_mistake(world):
    with pytest.raises(UserError, match=r"unknown key 'sise': did you mean 'size'"):
        outcomes(Push, world, sise=1)


def test_the_fingerprint_sees_weights_hooks_and_words(world):
    before = fingerprint(world.model)
    unet = world.model.pipeline.unet
    handle = unet.mid_block.register_forward_hook(lambda *_: None)
    assert fingerprint(world.model) != before
    handle.remove()
    with torch.no_grad():
        unet.conv_in.bias[0] += 1
        assert fingerprint(world.model) != before
        unet.conv_in.bias[0] -= 1
    assert fingerprint(world.model) == before


METHOD = '''
class Mine:
    """Mine."""

    name, draw_class = "mine", "emergent"
    Config = fit = apply = object
'''


def test_a_file_holds_one_method(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f"from fairbench.draws import Draw\n{METHOD}")
    assert method_in(path).name == "mine"
    for text, message in (
        ("x = 1", f"holds none; one class with {', '.join(INTERFACE)}"),
        (METHOD + METHOD.replace("Mine", "Yours"), "holds Mine, Yours"),
        ("import nowhere_to_be_found", "cannot be loaded: ModuleNotFoundError"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            method_in(path)
    with pytest.raises(UserError, match="there is no such file"):
        method_in(tmp_path / "gone.py")


def test_draws_of_the_contract_are_certain():
    assert Draw("iid", (0.0, 1.0))([1, 2, 3]).tolist() == [1, 1, 1]
