"""What a run is going to do, with every setting checked that can be checked without loading a model."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.config import RunConfig
from fairbench.errors import Unsupported, UserError, invalid, unknown
from fairbench.finetuning.monitors import MONITORS
from fairbench.plugins.registry import find_method
from fairbench.records import ORIGINAL
from fairbench.suites import Prompt, PromptSuite, load_suite


@dataclass(frozen=True)
class Plan:
    """The settings of a run, resolved."""

    config: RunConfig
    method: Any
    """An instance of the method's class."""
    suite: PromptSuite
    test: tuple[Prompt, ...]
    """What is measured, of whichever split."""
    training: tuple[Prompt, ...]
    space: AttributeSpace
    target: TargetDistribution
    updates: int

    @property
    def trains(self) -> bool:
        """Whether there is a second variant beside the original model."""
        return self.config.method != ORIGINAL


def make_plan(config: RunConfig) -> Plan:
    """Resolve the names in ``config``.

    Raises
    ------
    UserError
        A method, option, suite, split, attribute or monitor is unknown, the target does not fit, or there are
        fewer test prompts than asked for.
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
    )


def _check_supported(method: Any, space: AttributeSpace) -> None:
    """Raise a ``UserError`` where the method says which attributes it supports and this is none of them."""
    supported = getattr(method, "supports", None)
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
