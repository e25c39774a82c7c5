"""ITI-GEN, arXiv 2309.05569: learned words that name a class by example instead of by its name.

They are learnt in CLIP's space of texts and images; the diffusion network takes no part in it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from fairbench.attributes import AttributeSpace, TargetDistribution
from fairbench.draws import Draw
from fairbench.editing.class_pictures import kept
from fairbench.editing.class_prompts import check_training_prompts
from fairbench.editing.references import check_references, class_features, find_references
from fairbench.errors import UserError
from fairbench.features.image_features import ImageFeatures
from fairbench.finetuning.engine import Pace, Training, check_precision
from fairbench.intervention import DrawClass, FitContext, Intervention
from fairbench.models.hooks import Hooks
from fairbench.models.live_tokens import live_tokens
from fairbench.models.soft_tokens import soft_tokens
from fairbench.models.text_to_image import TextToImage
from fairbench.models.tokens import end_rows
from fairbench.seeding import image_seed

PROBE = "a photo of a person"


class ItiGen:
    r"""Append the learned word of the drawn class to every prompt.

    A word is q token embeddings, with several attributes the sum of those of its classes. With :math:`f` and
    :math:`g` CLIP's image and text features, :math:`T` a prompt and :math:`P_k` the same with word k, the
    words of an attribute follow

    .. math:: L = \operatorname{mean}_{i<j,\,o}
              \big[ 1 - \cos(\bar f_i - \bar f_j,\; \bar g(P_{io}) - \bar g(P_{jo}))
              + \max\big(0,\; \lambda - \tfrac{1}{2} \sum_{k \in \{i, j\}} \cos(g(P_{ko}), g(T))\big) \big],

    i and j its classes, o whatever the others may be, :math:`\bar f_k` over reference pictures of class k.

    Source: arXiv 2309.05569. Here the references are pictures of the model for prompts that name the class,
    unless a table of others is given. All of them are used at once, the words are tried on several prompts
    (:math:`\bar g` is over these), the attributes take their steps together, the learning rate is constant,
    words begin next to zero and not at it, where no direction is defined, and a word stands before the
    end-of-text token, which the authors' code overwrites.

    Limits: CLIP's text tower has to be the text encoder of the model, so it needs training features of that
    CLIP: Stable Diffusion 1.x with OpenAI's ViT-L/14, not 2.x, which takes an inner layer; SDXL is not
    supported. A word costs q tokens of every prompt, and there are as many as intersections.
    Cost: 2 U-Net rows per image and step, as the original, and images_per_class images of every class to fit.
    """

    name: ClassVar[str] = "iti_gen"
    draw_class: ClassVar[DrawClass] = "drawn"
    supports: ClassVar[tuple[str, ...] | None] = None
    quick: ClassVar[dict[str, Any]] = {"images_per_class": 4}

    class Config(BaseModel):
        """Settings; those of the source, but for the number of references."""

        model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

        updates: PositiveInt = 150
        learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
        """Of Adam."""
        vectors: PositiveInt = 3
        """Token embeddings per word."""
        images_per_class: PositiveInt = 64
        """References of every class of every attribute, where the model makes them."""
        references: str | None = None
        """A table of references of known class instead: columns path, prompt, and gender, race or age."""
        prompts_per_update: PositiveInt = 4
        """Training prompts that the words are tried on."""
        similarity: Annotated[float, Field(ge=-1, le=1)] = 0.8
        """Cosine to the prompt without the word that is close enough."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, model: TextToImage) -> None:
        """Raise a ``UserError`` where gradients through ``model`` would vanish."""
        check_precision(model)

    def check_task(
        self, model: TextToImage, space: AttributeSpace, target: TargetDistribution, prompts: Sequence[str]
    ) -> None:
        """Raise a ``UserError`` where a word cannot be appended to a prompt."""
        model.tokens([f"{prompt}{' .' * self.config.vectors}" for prompt in prompts])

    def check_fit(self, context: FitContext) -> None:
        """Raise a ``UserError`` where there can be no references, or no features of them."""
        if self.config.references:
            check_references(self.config.references, context.space)
        else:
            check_training_prompts(context)
        matching_clip(context.model, context.features)

    def fit(self, context: FitContext) -> Intervention:
        """Learn the words; an interrupted training of the same settings goes on."""
        config, model, space = self.config, context.model, context.space
        clip = matching_clip(model, context.features)
        settings = config.model_dump(mode="json", exclude={"updates"}) | context.description()
        given = find_references(config.references) if config.references else None
        if given:
            settings["references"] = given.sha256()
        images = kept(
            context.directory / "class_features.safetensors",
            lambda: class_features(context, clip, config.images_per_class, given),
            model,
        )
        learnt = _vectors(space, config.vectors, model, context.seed)
        words = [_word(k) for k in range(space.size)]

        def accumulate(update: int) -> dict[str, float]:
            seed = image_seed(self.name, "1", "update", update, context.seed)
            order = torch.randperm(len(context.prompts), generator=torch.Generator().manual_seed(seed))
            texts = [context.prompts[index].text for index in order[: config.prompts_per_update].tolist()]
            with torch.no_grad():
                plain = text_features(model, clip, texts)
            named = torch.stack(
                [text_features(model, clip, [f"{text} {word}" for text in texts]) for word in words]
            )
            near = (named * plain).sum(-1)
            directions = [direction_loss(space, name, images[name], named.mean(1)) for name in space.names]
            semantics = [semantic_loss(space, name, near, config.similarity) for name in space.names]
            for name, *own in zip(space.names, directions, semantics, strict=True):
                learnt[name].grad = torch.autograd.grad(own, learnt[name], retain_graph=True)[0]
            turned, moved = (torch.stack(losses).mean().item() for losses in (directions, semantics))
            return {"loss": turned + moved, "loss_direction": turned, "loss_semantics": moved}

        pace = Pace(config.learning_rate, ema_decay=0.0, optimizer="adam")
        with live_tokens(model, words, config.vectors, lambda: joint_vectors(space, learnt).flatten(0, 1)):
            training = Training(learnt, context.directory, settings, pace)
            joint = joint_vectors(space, training.run(context.updates, accumulate, context.log))
        embeddings = dict(zip(words, joint.detach(), strict=True))
        settings |= {"updates": training.state.update}
        return Intervention(self.name, self.draw_class, settings=settings, embeddings=embeddings)

    @contextmanager
    def apply(self, intervention: Intervention, model: TextToImage, draw: Draw) -> Iterator[Hooks]:
        """Let the text encoder know the words, and append the drawn one to every prompt."""

        def rewrite(prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
            return [f"{prompt} {_word(k)}" for prompt, k in zip(prompts, draw(seeds), strict=True)]

        with soft_tokens(model, intervention.embeddings):
            yield Hooks(rewrite=rewrite)


def matching_clip(model: TextToImage, features: Sequence[ImageFeatures]) -> ImageFeatures:
    """Return the features whose CLIP has the text encoder of ``model``.

    Raises
    ------
    UserError
        There are none.
    """
    for clip in features:
        if clip.tokenizer is None:
            continue
        width = model.pipeline.text_encoder.get_input_embeddings().weight.shape[1]
        projection = getattr(clip.network, "text_projection", None)
        if not isinstance(projection, Tensor) or projection.shape[0] != width:
            continue
        with torch.no_grad():
            ours, theirs = text_features(model, clip, [PROBE]), F.normalize(clip.text([PROBE]), dim=-1)
        if F.cosine_similarity(ours, theirs).item() > 0.99:
            return clip
    raise UserError(
        f"iti_gen needs the CLIP whose text tower is the text encoder of {model.name}: "
        "name its features with --training-features"
    )


def text_features(model: TextToImage, clip: ImageFeatures, prompts: Sequence[str]) -> Tensor:
    """Return CLIP's features of N prompts, N x D of length 1, as the model's own text encoder gives them."""
    hidden = model.encode(prompts).conditional[torch.arange(len(prompts)), end_rows(model, prompts)]
    projection: Any = clip.network.text_projection
    return F.normalize(hidden @ projection.to(hidden), dim=-1)


def direction_loss(space: AttributeSpace, name: str, images: Tensor, texts: Tensor) -> Tensor:
    """Return the mean of one minus the cosine between image and text directions, over pairs of classes.

    ``images`` holds the K x D means of the classes of the attribute ``name``, ``texts`` the feature of every
    class of the product of all; each pair is compared with the others held fixed.
    """
    said = _by_class(space, name, texts)
    first, second = torch.combinations(torch.arange(len(said))).T
    seen = (images[first] - images[second]).unsqueeze(1).to(texts)
    return (1 - F.cosine_similarity(seen, said[first] - said[second], dim=-1)).mean()


def semantic_loss(space: AttributeSpace, name: str, near: Tensor, similarity: float) -> Tensor:
    """Return by how much pairs of classes fall short of ``similarity``, as `direction_loss` pairs them.

    ``near`` holds the cosines to n prompts without a word, of every class of the product: S x n.
    """
    said = _by_class(space, name, near)
    first, second = torch.combinations(torch.arange(len(said))).T
    return (similarity - (said[first] + said[second]) / 2).clamp(min=0).mean()


def _by_class(space: AttributeSpace, name: str, rows: Tensor) -> Tensor:
    """Return K x (S / K) x D from S x D: the classes of one attribute, and whatever the others may be."""
    sizes = [len(classes) for classes in space.classes.values()]
    axis = space.names.index(name)
    return rows.reshape(*sizes, -1).movedim(axis, 0).reshape(sizes[axis], -1, rows.shape[-1])


def joint_vectors(space: AttributeSpace, vectors: Mapping[str, Tensor]) -> Tensor:
    """Return the token embeddings of every class of the product, K x q x D: the sum over its attributes."""
    sizes = [len(classes) for classes in space.classes.values()]
    classes = torch.unravel_index(torch.arange(space.size), sizes)
    return torch.stack([vectors[name][k] for name, k in zip(space.names, classes, strict=True)]).sum(0)


def _vectors(space: AttributeSpace, count: int, model: TextToImage, seed: int) -> dict[str, nn.Parameter]:
    """Begin next to zero, where the source does."""
    generator = torch.Generator().manual_seed(seed)
    width = model.pipeline.text_encoder.get_input_embeddings().weight.shape[1]
    return {
        name: nn.Parameter(
            1e-3 * torch.randn(len(classes), count, width, generator=generator).to(model.device)
        )
        for name, classes in space.classes.items()
    }


def _word(k: int) -> str:
    return f"<inclusive-{k}>"
