"""Fair Diffusion, arXiv 2302.10893: semantic guidance towards a drawn class while an image is denoised.

The direction is one per image, so a batch may hold images of every class.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.draws import Draw
from fairbench.intervention import DrawClass, FitContext, Intervention
from fairbench.models.hooks import Hooks, Step, classifier_free_guidance
from fairbench.models.text_to_image import TextToImage
from fairbench.models.tokens import check_words
from fairbench.wording import class_words

Share = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class FairDiffusion:
    r"""Push every image towards its drawn class and away from the others.

    Each class j of each attribute of K classes has an edit prompt, such as "female person", with the sign
    :math:`s_j = 1` if the image is to show it and :math:`-1 / (K - 1)` if not:

    .. math:: \psi_j &= s_j\, s_e\, (\epsilon_j - \epsilon_\varnothing),\ \text{0 where }
                       |\psi_j| < \mathrm{quantile}_\lambda |\psi_j| \text{ over the pixels of a channel} \\
              \psi &= \sum_j \psi_j + s_m \nu, \qquad \nu \gets \beta \nu + (1 - \beta)\, \psi \\
              \epsilon &= \epsilon_\varnothing + g\, (\epsilon_p - \epsilon_\varnothing) + \psi
                       \text{ from the end of the warm-up on}

    The momentum :math:`\nu` builds up from the first step.

    Source: arXiv 2302.10893 for the use, arXiv 2301.12247 for the guidance. The defaults are those of the
    authors' script, with its 5 warm-up steps of 50 as a share. It has two classes, of sign 1 and -1;
    with more, signs of -1 would push away from what all edit prompts share, a person.

    Limits: one more U-Net row per class of every attribute. Many classes push against each other, and the
    scale has to be chosen by hand for a model; a prompt without people is pushed as well. The threshold is a
    quantile over the pixels of the latents, and has to be chosen for their number: of the 8 x 8 of
    `portraits` the default leaves 4. SDXL is not supported.
    """

    name: ClassVar[str] = "fair_diffusion"
    draw_class: ClassVar[DrawClass] = "drawn"
    supports: ClassVar[tuple[str, ...] | None] = None
    neutral: ClassVar[dict[str, Any]] = {"scale": 0}

    class Config(BaseModel):
        """Settings; those of the authors' script."""

        model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

        updates: int = 0
        scale: Scale = 4
        """Of every edit direction."""
        threshold: Share = 0.95
        """Quantile below which a direction is cut to zero."""
        warmup: Share = 0.1
        """Share of the steps before the guidance sets in."""
        momentum_scale: Scale = 0.5
        """How much of the momentum is added."""
        momentum_decay: Annotated[float, Field(ge=0, lt=1)] = 0.6
        """How much of the momentum a step keeps."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def check_task(
        self, model: TextToImage, space: AttributeSpace, target: TargetDistribution, prompts: Sequence[str]
    ) -> None:
        """Raise a ``UserError`` where the tokenizer lacks the word of a class."""
        check_words(model, {word for words in class_words(space) for word in words.split()})

    def fit(self, context: FitContext) -> Intervention:
        """Write down the edit prompts; there is nothing to learn."""
        settings = self.config.model_dump(mode="json", exclude={"updates"})
        names = context.space.names
        edits = [f"{words} person" for name in names for words in class_words(AttributeSpace((name,)))]
        settings |= {"attributes": list(names), "edits": edits}
        return Intervention(self.name, self.draw_class, {}, settings)

    @contextmanager
    def apply(self, intervention: Intervention, model: TextToImage, draw: Draw) -> Iterator[Hooks]:
        """Predict the noise of the edit prompts beside each image's own, and combine them."""
        settings = intervention.settings
        space = AttributeSpace(tuple(settings["attributes"]))
        momentum = torch.zeros(())

        def branches(_: Sequence[str], seeds: Sequence[int]) -> list[list[str]]:
            return [[edit] * len(seeds) for edit in settings["edits"]]

        def combine(
            unconditional: Tensor, conditional: Tensor, guidance: float, step: Step, _: Tensor, *edits: Tensor
        ) -> Tensor:
            nonlocal momentum
            if step.index == 0:  # a new batch of images; none of them remembers another
                momentum = torch.zeros_like(conditional)
            directions = torch.stack(edits, 1) - unconditional.unsqueeze(1)
            towards = signs(space, draw(step.seeds)).to(directions)
            pushed = thresholded(
                settings["scale"] * towards[:, :, None, None, None] * directions, settings["threshold"]
            )
            semantic = pushed.sum(1) + settings["momentum_scale"] * momentum
            momentum = torch.lerp(semantic, momentum, settings["momentum_decay"])
            guided = classifier_free_guidance(unconditional, conditional, guidance)
            return guided + semantic if step.index >= round(settings["warmup"] * step.total) else guided

        yield Hooks(branches=branches, combine=combine)


def signs(space: AttributeSpace, joint: Sequence[int]) -> Tensor:
    """Return 1 for the classes that an image is to show and -1 / (K - 1) for the K - 1 others, N x E.

    ``joint`` holds N class numbers of the product of all attributes, in row-major order; E counts the classes
    of every attribute, attribute after attribute. Those of an attribute sum to zero.
    """
    sizes = [len(classes) for classes in space.classes.values()]
    wanted = torch.unravel_index(torch.as_tensor(joint), sizes)
    shown = [torch.nn.functional.one_hot(k, size) for k, size in zip(wanted, sizes, strict=True)]
    return torch.cat([(size * part - 1) / (size - 1) for part, size in zip(shown, sizes, strict=True)], 1)


def thresholded(directions: Tensor, quantile: float) -> Tensor:
    """Keep of each h x w map only what is at least its ``quantile`` of absolute values; N x E x C x h x w."""
    size = directions.abs()
    least = torch.quantile(size.flatten(3), quantile, dim=3)[..., None, None]
    return directions.where(size >= least, 0)
