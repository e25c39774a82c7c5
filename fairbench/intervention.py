"""What a method is given, what it hands back, and how that is kept on disk.

Safetensors for the weights, JSON for the settings: a plain diffusers pipeline can read the first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from fairbench.draws import DrawClass
from fairbench.errors import UserError
from fairbench.model_card import LORA, MATRICES, TENSORS, model_card
from fairbench.storage import atomic_write_json, atomic_write_tensors, atomic_write_text, sha256_of

if TYPE_CHECKING:
    from torch import Tensor

    from fairbench.attributes import AttributeSpace, TargetDistribution
    from fairbench.features.image_features import ImageFeatures
    from fairbench.finetuning.faces import Faces
    from fairbench.judges.judge import Judge
    from fairbench.models.text_to_image import TextToImage
    from fairbench.suites import Prompt

SCHEMA_VERSION = 1
EMBEDDINGS = "learned_embeds.safetensors"
SETTINGS = "intervention.json"
CARD = "README.md"


@dataclass(frozen=True)
class FitContext:
    """All that a method may use to learn; ``directory`` is where it keeps what it needs to go on later.

    ``log`` takes a row per update; true asks the method to stop there and return what it has.
    """

    model: TextToImage
    prompts: list[Prompt]
    space: AttributeSpace
    target: TargetDistribution
    judge: Judge
    features: list[ImageFeatures]
    updates: int
    seed: int
    directory: Path
    suite: str
    suite_version: str
    log: Callable[[dict[str, Any]], bool | None]
    faces: Faces | None = None

    def description(self) -> dict[str, Any]:
        """Name all that decides what is learnt, apart from the method's own settings."""
        return {
            "model": self.model.name,
            "suite": f"{self.suite} {self.suite_version}",
            "prompts": sha256_of("\n".join(prompt.text for prompt in self.prompts).encode()),
            "attributes": list(self.space.names),
            "target": {name: list(values) for name, values in self.target.probabilities.items()},
            "judge": {self.judge.name: self.judge.sha256},
            "features": {network.name: network.sha256 for network in self.features},
            "faces": {self.faces.name: self.faces.sha256} if self.faces else None,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Intervention:
    """What a method learnt: weights and settings, enough to apply it to the same model again."""

    method: str
    draw_class: DrawClass
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """LoRA weights, named as ``load_lora_weights`` reads them; ``unet.<parameter>`` -> what takes its place;
    or anything else."""
    settings: dict[str, Any] = field(default_factory=dict)
    embeddings: dict[str, Tensor] = field(default_factory=dict)
    """Token to its n x D soft tokens, as ``load_textual_inversion`` reads them."""

    @property
    def weights_file(self) -> str | None:
        """The name of the file that ``tensors`` go into: it says what they are."""
        if not self.tensors:
            return None
        if all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in self.tensors):
            return LORA
        return MATRICES if all(name.startswith("unet.") for name in self.tensors) else TENSORS

    def save(self, directory: Path | str, measured: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write the weights (where there are any), a model card, then the settings, into ``directory``.

        ``measured`` goes into the card, see `model_card`.
        """
        directory = Path(directory)
        if self.weights_file:
            atomic_write_tensors(directory / self.weights_file, self.tensors, {"format": "pt"})
        if self.embeddings:
            atomic_write_tensors(directory / EMBEDDINGS, self.embeddings, {"format": "pt"})
        atomic_write_text(directory / CARD, model_card(self, measured))
        description = {
            "schema_version": SCHEMA_VERSION,
            "method": self.method,
            "draw_class": self.draw_class,
            "settings": self.settings,
            "weights": self.weights_file,
            "embeddings": EMBEDDINGS if self.embeddings else None,
        }
        atomic_write_json(directory / SETTINGS, description)

    @classmethod
    def load(cls, directory: Path | str) -> Intervention:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If a file is missing, broken, or of another version of the format.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        directory = Path(directory)
        try:
            description = json.loads((directory / SETTINGS).read_text(encoding="utf-8"))
            version = description["schema_version"]
            if version != SCHEMA_VERSION or description["draw_class"] not in get_args(DrawClass):
                raise UserError(f"{directory / SETTINGS}: format {version} is unknown; update fairbench")
            name = description["weights"]
            if name not in (LORA, MATRICES, TENSORS, None):
                raise ValueError(f"weights in {name!r}")
            weights = load((directory / name).read_bytes()) if name else {}
            embeddings = load((directory / EMBEDDINGS).read_bytes()) if description.get("embeddings") else {}
            return cls(
                description["method"], description["draw_class"], weights, description["settings"], embeddings
            )
        except FileNotFoundError as error:
            raise UserError(f"{error.filename}: no such file; is {directory} an adapter directory?") from None
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            raise UserError(f"{directory}: not an adapter that fairbench saved ({error})") from None
