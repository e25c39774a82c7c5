"""What a run is going to do, with every setting checked that can be checked without loading a model."""

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.config import RunConfig
from fairbench.errors import Unsupported, UserError, invalid, unknown
from fairbench.finetuning.monitors import MONITORS
from fairbench.images.rows import ImageSet
from fairbench.images.sources import real_faces, referred_images
from fairbench.intervention import Intervention, Method, part
from fairbench.plugins.registry import find_method
from fairbench.records import ORIGINAL
from fairbench.store.load import load_adapter
from fairbench.suites import Prompt, PromptSuite, load_suite


@dataclass(frozen=True)
class Plan:
    """The settings of a run, resolved."""

    config: RunConfig
    method: Method
    suite: PromptSuite
    test: tuple[Prompt, ...]
    """What is measured, of whichever split."""
    training: tuple[Prompt, ...]
    space: AttributeSpace
    target: TargetDistribution
    updates: int
    adapter: Intervention | None
    """What is applied instead of finetuning."""
    reference: ImageSet | None
    """What FID and KID compare with, where a folder is named."""
    real_faces: ImageSet | None
    """What the face loss draws faces to, where a folder is named."""

    @property
    def trains(self) -> bool:
        """Whether there is a second variant beside the original model."""
        return self.config.method != ORIGINAL


def make_plan(config: RunConfig) -> Plan:
    """Resolve the names in ``config``.

    Raises
    ------
    UserError
        A method, option, suite, split, attribute or monitor is unknown, the target does not fit, there are
        fewer test prompts than asked for, or a folder that is named does not hold what it is named for.
    """
    for name in config.stop_on:
        if name not in MONITORS:
            raise unknown("monitor to stop on", name, MONITORS)
    method = find_method(config.method)
    try:
        settings = method.Config(**config.method_options)
    except ValidationError as error:
        raise invalid(f"method {config.method}", error, method.Config.model_fields) from None
    suite = load_suite(config.suite)
    space = AttributeSpace(config.attributes)
    _check_supported(method, space)
    updates = config.updates or getattr(settings, "updates", None) or 0
    if updates and config.method != ORIGINAL and "train" not in suite.splits and not config.adapter:
        raise UserError(
            f"suite {suite.name} has no training prompts: train on another one, "
            f"then measure with fairbench evaluate RUN --suite {suite.name}"
        )
    if config.until_width and config.method != ORIGINAL:
        raise UserError(f"--until-width measures a model as it is: leave out --method {config.method}")
    return Plan(
        config=config,
        method=method(settings),
        suite=suite,
        test=_first(suite.prompts(config.split), config.test_prompts),
        training=tuple(suite.prompts("train"))
        if config.method != ORIGINAL and "train" in suite.splits
        else (),
        space=space,
        target=TargetDistribution.parse(config.target, space),
        updates=updates,
        adapter=_adapter(config, space),
        reference=referred_images(config.reference),
        real_faces=real_faces(config.real_faces),
    )


def _adapter(config: RunConfig, space: AttributeSpace) -> Intervention | None:
    """Load the intervention to be applied instead of finetuning, if there is one."""
    if config.adapter is None:
        return None
    adapter = load_adapter(config.adapter)
    if adapter.method != config.method:
        raise UserError(f"{config.adapter} is of {adapter.method}, not of {config.method}")
    balanced = tuple(adapter.settings.get("attributes", space.names))
    if adapter.draw_class != "emergent" and balanced != space.names:  # its classes are drawn by number
        raise UserError(
            f"{config.adapter} balances {', '.join(balanced)}: "
            f"give --attributes {','.join(balanced)}, or leave it out"
        )
    return adapter


def _check_supported(method: type[Method], space: AttributeSpace) -> None:
    """Raise a ``UserError`` where the method says which attributes it supports and this is none of them."""
    supported = part(method, "supports")
    for name in space.names:
        if supported is not None and name not in supported:
            raise Unsupported(
                f"{method.name} does not support {name}: give --attributes out of {', '.join(supported)}"
            )


def _first(prompts: Iterable[Prompt], count: int | None) -> tuple[Prompt, ...]:
    prompts = tuple(prompts)
    if count is not None and count > len(prompts):
        raise UserError(f"--test-prompts {count}: the suite has {len(prompts)} {prompts[0].split} prompts")
    return prompts[:count]
