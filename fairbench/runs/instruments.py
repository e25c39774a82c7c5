"""What a run generates and measures with: model, judges and feature networks, loaded and found to fit.

What is about to be measured with them is written down here too.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from fairbench.attributes import AttributeSpace
from fairbench.config import RunConfig, spelled
from fairbench.draws import Draw
from fairbench.errors import Unsupported, UserError
from fairbench.features import ImageFeatures, identify_features, load_features
from fairbench.images.files import check_images
from fairbench.intervention import part
from fairbench.judges import Judge, check_covers, load_judge, refuse_training_judge
from fairbench.models.generators import Model, as_model
from fairbench.models.loading import load_model
from fairbench.runs.family import RENDERER, named_networks, of_the_family
from fairbench.runs.plan import Plan
from fairbench.runs.training import fit_context
from fairbench.scoring.judging import Instruments
from fairbench.store.measurement import JudgeUsed, Measurement
from fairbench.store.results import Sequential
from fairbench.suites import Prompt, PromptSuite


def load_instruments(plan: Plan, model: Any | None = None) -> Instruments:
    """Load what ``plan`` needs and check that it fits; ``model`` takes the place of the one that it names.

    Raises
    ------
    UserError
        The method trains but the model can only be evaluated, a judge does not cover the attributes, a
        network is used on both sides, none is named for a model that brings none, or a prompt is too long.
    """
    config = plan.config
    model = as_model(model or load_model(config.model, **config.model_options), config.model)
    named = named_networks(config, plan.trains)
    device = str(model.device or best_device())
    if plan.trains:
        _check_method(plan, model)
    judges, features = _observers(named, plan.space, device)
    training_judge = load_judge(named["training_judge"]).to(device) if plan.trains else None
    if training_judge:
        check_covers(training_judge, plan.space)
        refuse_training_judge(judges, training_judge)
        refuse_twins([judge.name for judge in (*judges, training_judge)])
    names = named["training_features"] if plan.trains else ()
    training_features = tuple(load_features(name).to(device) for name in names)
    told_apart = [identify_features(name)[1] for name in filter(None, [config.face_features])]
    refuse_training_features(features, {*told_apart, *(network.sha256 for network in training_features)})
    _check_prompts(plan, model, features)
    return Instruments(
        model=model,
        judges=judges,
        training_judge=training_judge,
        features=features,
        training_features=training_features,
        reference=_reference(config, plan.suite, plan.test),
    )


def load_observers(
    config: RunConfig, space: AttributeSpace, suite: PromptSuite | None, prompts: Sequence[Prompt]
) -> Instruments:
    """Load what looks at images that are there already; raise ``UserError`` as `load_instruments` does."""
    named = named_networks(config, trains=False)
    judges, features = _observers(named, space, best_device())
    return Instruments(None, judges, None, features, (), _reference(config, suite, prompts))


def refuse_training_features(evaluation: Iterable[ImageFeatures], learnt: Collection[str]) -> None:
    """Raise a ``UserError`` where a network a method learnt from would say how little its images changed."""
    for network in evaluation:
        if network.sha256 in learnt:
            raise UserError(
                f"features {network.name} train the method, so they cannot measure it; "
                "name others with --features"
            )


def best_device() -> str:
    """Return where networks go that come without a model."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _observers(
    named: dict[str, Any], space: AttributeSpace, device: str
) -> tuple[tuple[Judge, ...], tuple[ImageFeatures, ...]]:
    """Load the judges and feature networks for evaluation, and check that they fit."""
    judges = tuple(load_judge(name).to(device) for name in named["judges"])
    for judge in judges:
        check_covers(judge, space)
    features = tuple(load_features(name).to(device) for name in named["features"])
    for networks in (judges, features):
        refuse_twins([network.name for network in networks])
    return judges, features


def _check_method(plan: Plan, model: Model) -> None:
    """Raise a ``UserError`` where the method cannot do what is asked of it with this model."""
    from fairbench.models.text_to_image import TextToImage

    config = plan.config
    if not isinstance(model, TextToImage):
        raise UserError(
            f"{config.model} can only be evaluated, with --method original: "
            f"{config.method} needs a diffusion model"
        )
    try:
        part(plan.method, "check")(model)
        texts = [prompt.text for prompt in (*plan.training, *plan.test)]
        part(plan.method, "check_task")(model, plan.space, plan.target, texts)
    except UserError as error:
        raise Unsupported(str(error)) from error


def check_fit(plan: Plan, instruments: Instruments, directory: Path) -> None:
    """Raise a ``UserError`` where the method cannot be fitted here, or what it learnt not be applied."""
    if plan.adapter:
        with plan.method.apply(plan.adapter, instruments.model, Draw.make(plan.space, plan.target)):
            return
    if plan.real_faces:
        check_images([Path(path) for path in plan.real_faces.variants[-1]["image"]])
    try:
        part(plan.method, "check_fit")(fit_context(plan, instruments, directory, lambda row: None))
    except UserError as error:
        raise Unsupported(str(error)) from error


def refuse_twins(names: Sequence[str]) -> None:
    """Raise a ``UserError`` where one name, by which records tell networks apart, stands for two of them."""
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise UserError(f"two networks are called {', '.join(twins)}: rename one, or name each one once")


def _check_prompts(plan: Plan, model: Model, features: Sequence[ImageFeatures]) -> None:
    """Try every prompt, and the number of steps, before anything is written."""
    import torch

    steps, most = plan.config.steps, model.most_steps
    if most and steps and steps > most:
        raise UserError(f"--steps {steps}: the sampler of {plan.config.model} takes at most {most}")
    test, training = ([prompt.text for prompt in prompts] for prompts in (plan.test, plan.training))
    with torch.inference_mode():
        model.check([*test, *training], steps)
        for network in features:
            if network.tokenizer is not None:
                network.text(test)


def _reference(config: RunConfig, suite: PromptSuite | None, prompts: Sequence[Prompt]) -> Any | None:
    """Return the renderer where it can draw every prompt of a model of its family; it heeds no attribute."""
    if config.reference or suite is None or suite.measures != "bias" or not of_the_family(config.model):
        return None
    renderer = load_model(RENDERER)
    try:
        renderer.check([prompt.text for prompt in prompts])
    except (
        UserError
    ):  # a suite with words that the embedded world has no role for: no FID, and all else as usual
        return None
    return renderer


def describe(plan: Plan, instruments: Instruments, sequential: Sequential | None = None) -> Measurement:
    """Write down what is about to be measured."""
    config = plan.config
    return Measurement(
        method=spelled(config.method, config.method_options),
        draw_class=plan.method.draw_class,
        model=spelled(config.model, config.model_options),
        suite=plan.suite.name,
        suite_sha256=plan.suite.sha256,
        measures=plan.suite.measures,
        attributes=plan.space.names,
        target=plan.target.probabilities,
        judges=used(instruments),
        network=instruments.network,
        sequential=sequential,
        updates=plan.updates,
        stop_on=config.stop_on,
    )


def used(instruments: Instruments) -> tuple[JudgeUsed, ...]:
    """Write down every judge; which words a judge knows for concepts is in the records already."""
    return tuple(
        JudgeUsed(
            name=judge.name,
            sha256=judge.sha256,
            weights=tuple(sorted(judge.weights)),
            trained=judge is instruments.training_judge,
            attributes={name: labels for name, labels in judge.attributes.items() if name != "concept"},
            confusion=judge.confusion,
        )
        for judge in instruments.all_judges
    )
