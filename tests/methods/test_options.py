"""Every option of every finetuning method changes what it says it changes, and reaches who needs it."""

from types import SimpleNamespace

import pytest
import torch

from fairbench.config import RunConfig
from fairbench.finetuning import direct
from fairbench.finetuning.direct import DirectFinetuning
from fairbench.finetuning.faces import WholePictures
from fairbench.models.text_to_image import TextToImage
from fairbench.plugins.registry import find_method, list_methods
from fairbench.runs.plan import make_plan
from tests.finetuning.stand_ins import Coarse, make_context, tiny_model

FOUND = {entry.name: find_method(entry.name) for entry in list_methods()}
METHODS = {name: method for name, method in FOUND.items() if issubclass(method, DirectFinetuning)}
SMALL = {"steps": 10, "prompts_per_update": 2, "images_per_prompt": 3}
"""What all of them begin with, so that any value below is another one."""


def pace(name):
    return lambda seen: getattr(seen.pace, name)


def wanted(name):
    return lambda seen: getattr(seen.update.objective.settings, name)


def rule(seen, seed=0):
    return seen.update.rule(seen.update.sampler, torch.Generator().manual_seed(seed))


def learning(seen, seed=0):
    return rule(seen, seed).weights.nonzero().flatten().tolist()


def bank(seen):
    """Most noises that a prompt is seen with."""
    found = {}
    for number in range(80):
        batch = seen.update.batches[number]
        for text, seed in batch.pictures:
            found.setdefault(text, set()).add(seed)
    return max(map(len, found.values()))


def sampled(name):
    """What an update hands to the sampling loop."""

    def read(seen):
        given = {}

        class Enough(Exception):
            pass

        def stop(*args, **named):
            given.update(named)
            raise Enough

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Enough):
            patch.setattr(TextToImage, "rollout", stop)
            patch.setattr(type(seen.update.objective.originals), "look_up", lambda *args: {})
            seen.update(0)
        return given[name]

    return read


def trained(seen):
    return sorted({name.partition("/")[0] for name in seen.parameters})


def first_column(seen):
    return [value.shape[0] for name, value in seen.parameters.items() if "lora_A" in name][:1]


def are_raw(seen):
    return torch.equal(rule(seen).weights, seen.update.sampler.gains[-1])


def stops(seen):
    return {rule(seen, seed).stop for seed in range(60)}


def firsts(seen):
    return {min(learning(seen, seed)) for seed in range(40)}


OPTIONS = {
    "updates": (7, lambda seen: seen.updates, 7),
    "tune": ("unet", trained, ["unet"]),
    "rank": (5, first_column, [5]),
    "soft_tokens": ("random", lambda seen: seen.begin, []),
    "learning_rate": (0.25, pace("learning_rate"), 0.25),
    "optimizer": ("sgd", pace("optimizer"), "sgd"),
    "lr_schedule": ("cosine", pace("lr_schedule"), "cosine"),
    "warmup": (3, pace("warmup"), 3),
    "clip": (0.125, pace("clip"), 0.125),
    "ema_decay": (0.5, pace("ema_decay"), 0.5),
    "prompts_per_update": (1, lambda seen: len(set(seen.update.batches[0].texts)), 1),
    "images_per_prompt": (5, lambda seen: len(seen.update.batches[0].seeds) // 2, 5),
    "noises_per_prompt": (4, bank, 4),
    "steps": (12, sampled("steps"), 12),
    "guidance": (1.5, sampled("guidance"), 1.5),
    "confidence": (0.6, wanted("confidence"), 0.6),
    "image_weight": (3.0, wanted("image_weight"), 3.0),
    "change_factor": (0.7, wanted("change_factor"), 0.7),
    "region_factor": (0.4, wanted("region_factor"), 0.4),
    "face_weight": (0.3, wanted("face_weight"), 0.3),
    "face_confidence": (0.55, wanted("face_confidence"), 0.55),
    "rows": (5, lambda seen: seen.update.portions.rows, 5),
    "pictures_at_once": (2, lambda seen: seen.update.objective.at_once, 2),
    "checkpointing": (True, lambda seen: seen.checkpointing, True),
    "timesteps_per_update": (2, lambda seen: len(learning(seen)), 2),
    "mode": ("raw", are_raw, True),
    "last": (3, learning, [7, 8, 9]),
    "noisings": (2, lambda seen: rule(seen).noisings, 2),
    "truncation": ("fixed", firsts, {9}),
    "trained": (2, lambda seen: len(learning(seen)), 2),
    "early": (0.2, stops, {8, 9}),
    "late": (0.5, stops, {5, 6, 7, 8, 9}),
}
"""Option -> a value that is no default, what shows it, and what it then is."""
BESIDE = {"soft_tokens": {"tune": "prefix"}, "mode": {"timesteps_per_update": None}}
"""What an option needs beside it to show."""
REFUSED = {("prompt_prefix", "tune"), ("prompt_prefix", "rank")}
"""What has one value alone, see test_direct_finetuning.py."""


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def begun(tmp_path, monkeypatch, model):
    """Begins the fit of a method and returns what ``reads`` find that its parts got."""
    monkeypatch.setenv("FAIRBENCH_CACHE", "off")
    seen = SimpleNamespace()

    class Training:
        state = SimpleNamespace(update=0)

        def __init__(self, parameters, directory, settings, pace, processes, meter):
            vars(seen).update(parameters=dict(parameters), settings=settings, pace=pace)

        def run(self, updates, update, log):
            checkpointing = model.pipeline.unet.is_gradient_checkpointing
            vars(seen).update(update=update, updates=updates, checkpointing=checkpointing)
            seen.found = {option: read(seen) for option, read in seen.reads.items()}
            raise InterruptedError

    adapter = direct.adapter

    def entered(model, tune, rank, seed, begin):
        seen.begin = begin
        return adapter(model, tune, rank, seed, begin)

    monkeypatch.setattr(direct, "Training", Training)
    monkeypatch.setattr(direct, "adapter", entered)

    def begin(method, reads, **options):
        seen.reads = reads
        config = RunConfig(method=method, method_options=SMALL | options)
        plan = make_plan(config)
        faces = WholePictures(Coarse(), lambda: torch.rand(2, 3, 64, 64))
        context = make_context(tmp_path, model, faces=faces, updates=plan.updates)
        with pytest.raises(InterruptedError):
            plan.method.fit(context)
        return seen.found

    return begin


@pytest.fixture(scope="module")
def defaults():
    """What is found of a method that no option is given to."""
    return {}


@pytest.mark.parametrize(
    ("method", "option"),
    [
        (name, option)
        for name, each in METHODS.items()
        for option in each.Config.model_fields
        if (name, option) not in REFUSED
    ],
)
def test_every_option_changes_what_it_says(begun, defaults, method, option):
    value, read, expected = OPTIONS[option]
    beside = BESIDE.get(option, {})
    if method not in defaults:
        reads = {name: OPTIONS[name][1] for name in METHODS[method].Config.model_fields}
        defaults[method] = begun(method, reads)
    before = begun(method, {option: read}, **beside) if beside else defaults[method]
    assert before[option] != expected
    assert begun(method, {option: read}, **beside, **{option: value})[option] == expected


def test_the_table_is_of_options_that_there_are():
    assert {option for method in METHODS.values() for option in method.Config.model_fields} == set(OPTIONS)
    assert len(METHODS) == 7
