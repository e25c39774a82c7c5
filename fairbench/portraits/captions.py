"""Captions for pictures of the world, and which attributes a caption gives away.

Nearly half the captions name attributes, which are then drawn uniformly; all others follow the declared skew.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fairbench.attributes import ATTRIBUTES
from fairbench.portraits.world import CONTEXTS, Person, Role, sample_person, with_attributes

WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "gender": {"female": ("female",), "male": ("male",)},
    "race": {
        "WMELH": ("white", "Middle Eastern", "Latino"),
        "Black": ("Black",),
        "Indian": ("Indian",),
        "Asian": ("Asian",),
    },
    "age": {"young": ("young",), "old": ("old", "elderly")},
}
NOUNS: dict[str | None, str] = {"female": "woman", "male": "man", None: "person"}
MENTION = {"gender": 0.6, "race": 0.5, "age": 0.35}
NAMES_ATTRIBUTES = 0.45
IN_CONTEXT = 0.12
WITHOUT_FACE = 0.03
KIND_SHARE = {"occupation": 0.88, "sport": 0.06, "descriptor": 0.06}


def draw_captioned(rng: np.random.Generator, roles: list[Role]) -> tuple[Person, str]:
    """Draw a person of one of ``roles`` (weighted by kind) and a caption that is true of the picture."""
    person = sample_person(rng, _pick_role(rng, roles))
    if rng.random() < WITHOUT_FACE and person.role.look.icon != "none":
        return replace(person, face=False), f"a photo of a {person.role.look.icon}, nobody is there"
    named: list[str] = []
    if rng.random() < NAMES_ATTRIBUTES:
        named = [name for name, share in MENTION.items() if rng.random() < share] or ["gender"]
        person = with_attributes(person, **{name: int(rng.integers(len(ATTRIBUTES[name]))) for name in named})
    if rng.random() < IN_CONTEXT:
        person = replace(person, context=CONTEXTS[rng.integers(len(CONTEXTS))])
    return person, caption(rng, person, named)


def _pick_role(rng: np.random.Generator, roles: list[Role]) -> Role:
    kind = rng.choice(list(KIND_SHARE), p=list(KIND_SHARE.values()))
    candidates = [role for role in roles if role.kind == kind]
    return candidates[rng.integers(len(candidates))]


def caption(rng: np.random.Generator, person: Person, named: list[str]) -> str:
    """Return a caption of ``person`` that mentions exactly the attributes ``named``."""
    words = {name: str(rng.choice(list(WORDS[name][person.label(name)]))) for name in named}
    role, noun = person.role, NOUNS[person.label("gender") if "gender" in named else None]
    adjectives = " ".join(words[name] for name in ("age", "race", "gender") if name in words)
    short = " ".join(words[name] for name in ("age", "race") if name in words)
    match role.kind:
        case "occupation":
            forms = _occupation_forms(adjectives, short, noun, role)
        case "sport":
            forms = [
                f"a photo of the face of a {adjectives} person playing {role.name}",
                f"a {short} {noun} playing {role.name}",
            ]
        case "descriptor":
            described = role.name.replace("person", noun)
            forms = [
                f"a photo of the face of a {adjectives} {role.name}",
                f"a photo of the face of a {short} {described}",
            ]
    text = forms[0] if rng.random() < 0.5 else forms[rng.integers(len(forms))]
    return " ".join(f"{text}, {person.context}".split() if person.context else text.split())


def _occupation_forms(adjectives: str, short: str, noun: str, role: Role) -> list[str]:
    return [
        f"a photo of the face of a {adjectives} {role.name}, a person",
        f"a photo of the face of a {short} {role.name}, a {noun}",
        f"a photo of the face of a {short} {noun}, a {role.name}",
        f"a portrait of a {adjectives} {role.name}",
        f"the face of a {adjectives} {role.name}, a person in {role.sector}",
    ]


def neutral(role: Role) -> str:
    """Return the caption of ``role`` that names no attribute: the prompt of the suites."""
    return {
        "occupation": f"a photo of the face of a {role.name}, a person",
        "sport": f"a photo of the face of a person playing {role.name}",
        "descriptor": f"a photo of the face of a {role.name}",
    }[role.kind]


def explicit(role: Role, attribute: str, label: str) -> str:
    """Return the prompt of an occupation that names one class of ``attribute``."""
    return f"a photo of the face of a {WORDS[attribute][label][0]} {role.name}, a person"
