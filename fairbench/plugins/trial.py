"""A method on trial: fitted on a few prompts of the embedded model, and generated from as often as asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.draws import Draw
from fairbench.errors import UserError, invalid
from fairbench.intervention import FitContext, Intervention, Method, part

if TYPE_CHECKING:
    from torch import Tensor

    from fairbench.features import ImageFeatures
    from fairbench.judges import Judge
    from fairbench.models.text_to_image import TextToImage
    from fairbench.suites import Prompt

IMAGES, STEPS, UPDATES = 3, 6, 2


class Inapplicable(Exception):
    """A clause that says nothing about this method; the message says why."""


@dataclass(frozen=True)
class World:
    """What a method is tried on."""

    model: TextToImage
    judge: Judge
    features: list[ImageFeatures]
    train: list[Prompt]
    test: list[Prompt]

    @classmethod
    def embedded(cls) -> World:
        """Load the embedded model with its training judge and features, and a few occupations."""
        from fairbench.features import load_features
        from fairbench.judges import load_judge
        from fairbench.models.loading import load_model
        from fairbench.suites import load_suite

        model, suite = load_model("portraits", device="cpu"), load_suite("occupations")
        model.defaults = model.defaults.model_copy(update={"steps": STEPS})
        return cls(
            model,
            load_judge("portraits-train"),
            [load_features("clip-train"), load_features("ssl-train")],
            suite.prompts("train")[:4],
            suite.prompts("test")[:2],
        )


class Trial:
    """A method on its world: fitted once, and generated from as often as a clause asks."""

    def __init__(
        self, method: Any, world: World, options: Mapping[str, Any], attributes: str, directory: Path
    ) -> None:
        self.method, self.world, self.directory = method, world, directory
        self.options = {**part(method, "quick"), **options}
        self.space = AttributeSpace.parse(attributes)
        self.draw = Draw.make(self.space, TargetDistribution.parse("uniform", self.space))
        self.prompts = [world.test[index % len(world.test)].text for index in range(IMAGES)]
        self.fingerprint = fingerprint(world.model)
        self.original = world.model.generate(self.prompts, range(IMAGES))
        self.made({})  # a wrong option is the user's mistake, not a broken clause

    def made(self, changes: Mapping[str, Any]) -> Method:
        """Return the method with its options and ``changes``."""
        config = self.method.Config
        try:
            return self.method(config(**{**self.options, **changes}))
        except ValidationError as error:
            raise invalid(f"method {self.method.__name__}", error, config.model_fields) from None
        except TypeError as error:
            raise UserError(f"{self.method.__name__} cannot be made from its Config: {error}") from None

    def fit(self, place: str, **changes: Any) -> tuple[Method, Intervention]:
        """Fit afresh in a directory of its own."""
        method = self.made(changes)
        unsupported = set(self.space.names) - set(part(method, "supports") or self.space.names)
        if unsupported:
            raise Inapplicable(f"does not support {', '.join(sorted(unsupported))}")
        target = TargetDistribution.parse("uniform", self.space)
        context = FitContext(
            model=self.world.model,
            prompts=self.world.train,
            space=self.space,
            target=target,
            judge=self.world.judge,
            features=self.world.features,
            updates=UPDATES,
            seed=0,
            directory=self.directory / place,
            suite="contract",
            suite_version="1",
            log=lambda row: None,
        )
        try:
            texts = [prompt.text for prompt in (*self.world.train, *self.world.test)]
            part(method, "check")(self.world.model)
            part(method, "check_task")(self.world.model, self.space, target, texts)
            part(method, "check_fit")(context)
        except UserError as error:
            raise Inapplicable(str(error)) from None
        return method, method.fit(context)

    @cached_property
    def fitted(self) -> tuple[Method, Intervention]:
        """The method and what it learnt, with its own options."""
        return self.fit("fitted")

    @cached_property
    def pictures(self) -> Tensor:
        """The pictures with the method applied."""
        return self.generate(*self.fitted)

    def generate(
        self, method: Method, intervention: Intervention, draw: Draw | None = None, batch_size: int = IMAGES
    ) -> Tensor:
        """Make the trial's pictures with ``intervention`` applied."""
        model = self.world.model
        with method.apply(intervention, model, draw or self.draw) as hooks:
            return model.generate(self.prompts, range(IMAGES), batch_size=batch_size, hooks=hooks)


def fingerprint(model: TextToImage) -> str:
    """Hash every weight and buffer, the vocabulary, and how many hooks hang where."""
    digest = hashlib.sha256(repr(sorted(model.pipeline.tokenizer.get_vocab().items())).encode())
    for network in (model.pipeline.text_encoder, model.pipeline.unet, model.pipeline.vae):
        for name, tensor in network.state_dict().items():
            digest.update(name.encode() + tensor.detach().cpu().float().contiguous().numpy().tobytes())
        for name, module in network.named_modules():
            hooks = len(module._forward_hooks) + len(module._forward_pre_hooks)
            digest.update(f"{name} {type(module).__name__} {hooks} {module.training}".encode())
    return digest.hexdigest()
