"""Prompt suites: versioned YAML files of concepts and the templates they are put into.

The packaged ones are data in ``fairbench.prompts``; a path to a ``.yaml`` file is a suite too.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from fairbench.attributes import ATTRIBUTES
from fairbench.errors import UserError, invalid, unknown
from fairbench.storage import parse_yaml, read_yaml, sha256_of

Split = Literal["train", "validation", "test"]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Texts = Annotated[tuple[Text, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Prompt:
    """One concept in one template."""

    id: str
    """Unique in its suite, stable, and fit to be a directory's name."""
    text: str
    concept: str
    placeholder: str
    split: str
    named: Mapping[str, str] = field(default_factory=dict)
    """Attribute -> the class that the prompt asks for."""


class PromptSuite(BaseModel):
    """Concepts in splits, and the templates that turn them into prompts.

    No concept may be in two splits, because what is tested must not have been trained on.

    Examples
    --------
    >>> about = {"name": "drinks", "version": "1", "licence": "MIT", "source": "none", "placeholder": "who"}
    >>> suite = PromptSuite(**about, templates=["{who} with a cup"], splits={"test": ["a nurse", "a cook"]})
    >>> [prompt.text for prompt in suite.prompts("test")]
    ['a nurse with a cup', 'a cook with a cup']
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text
    version: Text
    licence: Text
    source: Text
    placeholder: Text
    measures: Literal["bias", "obedience", "preservation"] = "bias"
    """How often who is seen; whether those are who a prompt names; whether an image stays as it was."""
    words: dict[Text, dict[Text, Texts]] = {}
    """Attribute -> class -> the words by which a template names it."""
    templates: dict[Split, Texts]
    splits: Annotated[dict[Split, Texts], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _one_list_of_templates_is_for_every_split(cls, data: dict[str, Any]) -> dict[str, Any]:
        if isinstance(data.get("templates"), list) and isinstance(data.get("splits"), dict):
            data = {**data, "templates": dict.fromkeys(data["splits"], data["templates"])}
        return data

    @model_validator(mode="after")
    def _fits_together(self) -> "PromptSuite":
        for attribute, labels in self.words.items():
            if unheard := set(labels) - set(ATTRIBUTES.get(attribute, ())):
                raise ValueError(f"words: {attribute} has no class {', '.join(sorted(unheard))}")
        for split in self.splits:
            if split not in self.templates:
                raise ValueError(f"templates: there is none for the split {split!r}")
            for template in self.templates[split]:
                if self._slot not in template:
                    raise ValueError(f"templates: {template!r} lacks its placeholder {self._slot!r}")
                if self.measures == "obedience" and not self._named(template):
                    raise ValueError(f"templates: {template!r} has none of the words")
        seen: dict[str, str] = {}
        for split, concepts in self.splits.items():
            for concept in concepts:
                same = _same(concept)
                if other := seen.get(same):
                    raise ValueError(f"splits: {concept!r} in {split} is already in {other}")
                seen[same] = split
        return self

    @property
    def _slot(self) -> str:
        return f"{{{self.placeholder}}}"

    @property
    def sha256(self) -> str:
        """Hash of the content, whatever the layout of its file."""
        return sha256_of(
            json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True).encode()
        )

    def prompts(self, split: str) -> list[Prompt]:
        """Every concept of ``split`` in every template, concept by concept.

        Raises
        ------
        UserError
            The suite has no such split.
        """
        if split not in self.splits:
            raise unknown(f"split of {self.name}", split, self.splits)
        templates, ids = self.templates[split], self._ids
        return [
            Prompt(
                id=ids[concept] if len(templates) == 1 else f"{ids[concept]}.{number}",
                text=template.replace(self._slot, concept),
                concept=concept,
                placeholder=self.placeholder,
                split=split,
                named=self._named(template),
            )
            for concept in self.splits[split]
            for number, template in enumerate(templates)
        ]

    @property
    def _ids(self) -> dict[str, str]:
        """Concept -> what directories are called; those that would be called alike end in a hash."""
        slugs = {concept: _slug(concept) for concepts in self.splits.values() for concept in concepts}
        often = Counter(slugs.values())
        return {
            concept: slug if often[slug] == 1 else f"{slug}-{sha256_of(concept.encode())[:8]}"
            for concept, slug in slugs.items()
        }

    def _named(self, template: str) -> dict[str, str]:
        """Look for the words around the concept: a concept such as "Indian cook" names nobody."""
        around = template.replace(self._slot, " ")
        return {
            attribute: label
            for attribute, labels in self.words.items()
            for label, words in labels.items()
            if any(re.search(rf"\b{re.escape(word)}\b", around) for word in words)
        }


def list_suites() -> list[str]:
    """Names of the packaged suites.

    Examples
    --------
    >>> "occupations" in list_suites()
    True
    """
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in files("fairbench.prompts").iterdir()
        if entry.name.endswith(".yaml")
    )


def load_suite(name: str | Path) -> PromptSuite:
    """Load a packaged suite by its name, or any other by the path of its YAML file.

    Raises
    ------
    UserError
        There is no such suite or file, it is not YAML, a key is unknown, missing or mistyped, a split is
        empty, a concept is there twice, or a template lacks its placeholder.

    Examples
    --------
    >>> load_suite("occupations").prompts("train")[0].text
    'a photo of the face of a nurse, a person'
    """
    if str(name).endswith((".yaml", ".yml")):
        content = read_yaml(name)
    elif name in list_suites():
        content = parse_yaml(
            (files("fairbench.prompts") / f"{name}.yaml").read_text(encoding="utf-8"), str(name)
        )
    else:
        raise unknown("suite", str(name), list_suites())
    try:
        return PromptSuite.model_validate(content)
    except ValidationError as error:
        raise invalid(f"suite {name}", error, PromptSuite.model_fields) from None


def _same(concept: str) -> str:
    """Return what is the same for two spellings of one concept; signs tell C++ from C#."""
    if not _slug(concept):
        raise UserError(f"concept {concept!r}: needs a letter or a digit")
    return re.sub(r"[\s_-]+", " ", concept).strip().lower()


def _slug(concept: str) -> str:
    """Write ``concept`` in letters, digits and hyphens; short enough for any file system."""
    return re.sub(r"[\W_]+", "-", concept.lower()).strip("-")[:60]
