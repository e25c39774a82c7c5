"""InterpretDiffusion, arXiv 2311.17216: one vector per class, added to the middle of the U-Net.

The vectors are learnt from the model's own pictures of each class, under prompts that do not name it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from fairbench.attributes import AttributeSpace
from fairbench.draws import Draw
from fairbench.editing.class_pictures import class_latents, kept
from fairbench.editing.class_prompts import check_training_prompts
from fairbench.finetuning.engine import Pace, Training, check_precision
from fairbench.intervention import DrawClass, FitContext, Intervention
from fairbench.models.hooks import Conditioning, Hooks, Step, attached
from fairbench.models.text_to_image import TextToImage
from fairbench.seeding import image_seed

LAYER = "mid_block"


class InterpretDiffusion:
    r"""Add the vector of the drawn class to the U-Net's middle features, in the conditional half.

    With :math:`z_t` a noised image of the model for "a {class k} nurse", and :math:`y` the prompt "a nurse",

    .. math:: v = \arg\min_v \mathbb{E}\, \lVert \epsilon - \epsilon_\theta(z_t, t, y;\ h + v_k) \rVert^2,
              \qquad h \gets h + \lambda v_k \text{ at every step of sampling.}

    With several attributes the vectors of an image's classes are added up, in training and in sampling.

    Source: arXiv 2311.17216. There the pictures are of "a {class}" and :math:`y` is "a person"; here both are
    made of the training prompts, so that occupations average out.

    Limits: the vectors fit one model and one size of picture, and carry along whatever else the pictures of
    a class have in common. Cost: 2 U-Net rows per image and step, as the original; to fit, images_per_class
    images of every class (of every intersection, where there are several attributes), and batch_size rows per
    update. SDXL is not supported.
    """

    name: ClassVar[str] = "interpret_diffusion"
    draw_class: ClassVar[DrawClass] = "drawn"
    supports: ClassVar[tuple[str, ...] | None] = None
    neutral: ClassVar[dict[str, Any]] = {"strength": 0}
    quick: ClassVar[dict[str, Any]] = {"images_per_class": 4, "batch_size": 4}

    class Config(BaseModel):
        """Settings; the source trains 2500 updates on 1000 images of a class, with batches of 8."""

        model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

        updates: PositiveInt = 400
        learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
        """Of Adam."""
        batch_size: PositiveInt = 16
        """Noised images per update."""
        images_per_class: PositiveInt = 128
        """Made once, from prompts that name the class."""
        strength: Annotated[float, Field(allow_inf_nan=False)] = 1
        """How much of a vector is added."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, model: TextToImage) -> None:
        """Raise a ``UserError`` where gradients through ``model`` would vanish."""
        check_precision(model)

    def check_fit(self, context: FitContext) -> None:
        """Raise a ``UserError`` where a class cannot be written into a training prompt."""
        check_training_prompts(context)

    def fit(self, context: FitContext) -> Intervention:
        """Learn the vectors; an interrupted training of the same settings goes on."""
        config, model, space = self.config, context.model, context.space
        settings = config.model_dump(mode="json", exclude={"updates", "strength"}) | context.description()
        pictures = kept(
            context.directory / "class_latents.safetensors",
            lambda: {
                label: class_latents(context, space, k, config.images_per_class)
                for k, label in enumerate(space.labels)
            },
            model,
        )
        latents = torch.stack([pictures[label] for label in space.labels]).to(model.device)
        shape = _shape(model, latents[0, :1])
        vectors = {
            name: nn.Parameter(torch.zeros(len(classes), *shape, device=model.device))
            for name, classes in space.classes.items()
        }
        pace = Pace(config.learning_rate, ema_decay=0.0, optimizer="adam")
        training = Training(vectors, context.directory, settings, pace, meter=lambda: context.model.unet_rows)
        learnt = training.run(context.updates, self._update(context, latents, vectors), context.log)
        settings |= {"updates": training.state.update, "strength": config.strength}
        return Intervention(self.name, self.draw_class, learnt, settings)

    @contextmanager
    def apply(self, intervention: Intervention, model: TextToImage, draw: Draw) -> Iterator[Hooks]:
        """Add the vectors of the drawn classes while images are made."""
        space = AttributeSpace(tuple(intervention.settings["attributes"]))
        strength = intervention.settings["strength"]

        def add(output: Tensor, step: Step) -> Tensor:
            classes = torch.as_tensor(draw(step.seeds))
            return shifted(output, strength * shifts(space, intervention.tensors, classes))

        yield Hooks(modules={LAYER: add})

    def _update(
        self, context: FitContext, latents: Tensor, vectors: Mapping[str, Tensor]
    ) -> Callable[[int], dict[str, float]]:
        """Return what leaves the gradient of one batch in ``vectors``; ``latents`` is K x I x C x h x w."""
        model, scheduler = context.model, context.model.pipeline.scheduler
        levels, prompts = scheduler.alphas_cumprod, context.prompts
        with torch.no_grad():
            neutral = model.encode([prompt.text for prompt in prompts])

        def accumulate(update: int) -> dict[str, float]:
            seed = image_seed(self.name, "1", "update", update, context.seed)
            generator = torch.Generator().manual_seed(seed)
            classes, images, timesteps = (
                torch.randint(most, (self.config.batch_size,), generator=generator)
                for most in (*latents.shape[:2], len(levels))
            )
            clean = latents[classes, images]
            noise = torch.randn(clean.shape, generator=generator).to(clean)
            level = levels[timesteps].to(clean).reshape(-1, 1, 1, 1)
            wanted = noise
            if scheduler.config.prediction_type == "v_prediction":
                wanted = level.sqrt() * noise - (1 - level).sqrt() * clean
            shift = shifts(context.space, vectors, classes)
            same = images % len(prompts)  # the prompt that an image was made of, without its class
            noised = level.sqrt() * clean + (1 - level).sqrt() * noise
            conditioning = Conditioning(neutral.conditional[same], neutral.unconditional[same])
            hooks = Hooks(modules={LAYER: lambda output, _: output + shift.to(output)})
            with attached(model.pipeline.unet, hooks, None):  # without guidance there is one half only
                predicted = model.predict_noise(noised, timesteps, conditioning, 1.0)
            loss = (predicted - wanted).square().mean()
            loss.backward()
            return {"loss": loss.item()}

        return accumulate


def shifts(space: AttributeSpace, vectors: Mapping[str, Tensor], joint: Tensor) -> Tensor:
    """Return the sum of the vectors of every image's classes, N x C x h x w, from N joint class numbers."""
    classes = torch.unravel_index(joint, [len(labels) for labels in space.classes.values()])
    parts = [vectors[name][k.to(vectors[name].device)] for name, k in zip(space.names, classes, strict=True)]
    return torch.stack(parts).sum(0)


def shifted(output: Tensor, shift: Tensor) -> Tensor:
    """Add ``shift`` (N rows) to the conditional rows of ``output``: the second N of its 2N or more."""
    count = len(shift)
    conditional = output[count : 2 * count] + shift.to(output)
    return torch.cat([output[:count], conditional, output[2 * count :]])


def _shape(model: TextToImage, latents: Tensor) -> torch.Size:
    """Return the shape of the middle features of one image."""
    seen: list[torch.Size] = []

    def look(output: Tensor, _: Step | None) -> Tensor:
        seen.append(output.shape[1:])
        return output

    with torch.no_grad():
        model.predict_noise(latents, torch.tensor(0), model.encode([""]), 1.0, Hooks(modules={LAYER: look}))
    return seen[0]
