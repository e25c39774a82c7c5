"""Words for the classes of an attribute, and the grammar of writing them into a prompt.

Every method that names an attribute uses these, so that no two differ by their choice of words.
"""

import re

import numpy as np

from fairbench.attributes import AttributeSpace
from fairbench.errors import UserError

WORDS: dict[str, dict[str, str]] = {
    "age": {"young": "young", "old": "old"},
    "race": {"WMELH": "white", "Black": "Black", "Indian": "Indian", "Asian": "Asian"},
    "gender": {"female": "female", "male": "male"},
}
"""Attribute -> class -> its word; the attributes in the order of English adjectives."""

NOUNS = {"gender": ("woman", "man", "women", "men")}
"""Other words that give an attribute away."""
PICTURES = "photo|photograph|picture|image|portrait|painting|drawing|headshot|close-up|face|head"
SUBJECT = re.compile(rf"(?:^|\bof )(?P<article>an?|the|one) (?!(?:{PICTURES})\b)(?P<subject>[^,]+)", re.I)
VOWEL = re.compile(
    r"""
    [aeioué] | honest | honou?r | hour(?!i) | heir
    | 8 | 1[18](?!\d)                          # eight, eleven, eighteen
    | (?-i:[FHLMNRSX][A-Z])                    # spelled out: "an MRI nurse"
    | [fhlmnrsx](?![^\W\d_])                   # a letter alone: "an X-ray technician"
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""How a word begins that asks for "an", but for `CONSONANT`."""
CONSONANT = re.compile(
    r"""
    (?-i:U[A-Z] | [Ee]u) | u(?![^\W\d_])       # "a UX designer", "a European", "a U-boat"; not "an EU"
    | ewe | one\b | once\b
    | uni (?! den|dea|dio | magin|mm|mp | n(?!om|uc) | ll | r[or] | ss)  # not "un" before an "i"
    | unanim | u[rst][aeiou] | uk[aeiour] | ubi | ufo | ugand | uvu | u[iy]g
    | (?-i:FEMA|NASA|NATO|SWAT)\b              # read as words
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""How a word begins that sounds like "y", "w" or another consonant all the same."""


def class_words(space: AttributeSpace) -> list[str]:
    """Return the adjectives of every class of ``space``, like its labels: ``"old Black female"``.

    Examples
    --------
    >>> class_words(AttributeSpace.parse("gender,age"))
    ['young female', 'old female', 'young male', 'old male']
    """
    return [" ".join(_words(space, k).values()) for k in range(space.size)]


def other_words(prompt: str, space: AttributeSpace, k: int) -> str:
    """Return the words of all classes but class ``k``, attribute by attribute: "white, Indian, Asian, male".

    An attribute for which ``prompt`` does not have the word of that class is left out.

    Examples
    --------
    >>> other_words("a photo of a female nurse", AttributeSpace.parse("gender"), 0)
    'male'
    """
    own = {name: word for name, word in _words(space, k).items() if _contains(prompt, [word])}
    return ", ".join(word for name in own for word in WORDS[name].values() if word != own[name])


def described(prompt: str, space: AttributeSpace, k: int) -> str:
    """Return ``prompt`` with the words of class ``k`` before its subject, and the article that they ask for.

    "a photo of the face of an engineer" becomes "a photo of the face of a female engineer". An attribute that
    the prompt names already is left as it is.

    Raises
    ------
    UserError
        The prompt has no subject.

    Examples
    --------
    >>> described("a photo of the face of an engineer", AttributeSpace.parse("gender"), 0)
    'a photo of the face of a female engineer'
    """
    words = [word for name, word in _words(space, k).items() if not names(prompt, name)]
    found = _subject(prompt)
    if not words:
        return prompt
    article = found["article"]
    if article.lower() in ("a", "an"):
        article = _article(article, words[0])
    before, after = prompt[: found.start("article")], prompt[found.start("subject") :]
    return before + " ".join([article, *words, after])


def subject(prompt: str) -> str:
    """Return who or what ``prompt`` shows, up to its first comma and without the article: "police officer".

    Raises
    ------
    UserError
        The prompt has no subject.

    Examples
    --------
    >>> subject("a photo of a police officer, a person")
    'police officer'
    """
    return _subject(prompt)["subject"].strip()


def with_article(noun: str) -> str:
    """Return ``noun`` with "a" or "an" before it.

    Examples
    --------
    >>> with_article("engineer"), with_article("user")
    ('an engineer', 'a user')
    """
    return f"{_article('a', noun)} {noun}"


def substituted(prompt: str, old: str, new: str) -> str:
    """Return ``prompt`` with ``new`` in the place of ``old``, and the article that ``new`` asks for.

    Examples
    --------
    >>> substituted("a photo of a nurse", "nurse", "engineer")
    'a photo of an engineer'
    """
    found = re.search(rf"(?:\b(?P<article>an?) )?(?-i:{re.escape(old)})", prompt, re.I)
    if not found:
        return prompt
    article = f"{_article(found['article'], new)} " if found["article"] else ""
    return f"{prompt[: found.start()]}{article}{new}{prompt[found.end() :]}"


def _article(like: str, noun: str) -> str:
    """Return "a" or "an", whichever ``noun`` asks for, with a capital where ``like`` has one."""
    return like[0] + ("n" if VOWEL.match(noun) and not CONSONANT.match(noun) else "")


def names(prompt: str, attribute: str) -> bool:
    """Tell whether ``prompt`` names a class of ``attribute`` by one of its usual words.

    Examples
    --------
    >>> names("a photo of a woman", "gender"), names("a photo of a nurse", "gender")
    (True, False)
    """
    return _contains(prompt, [*WORDS[attribute].values(), *NOUNS.get(attribute, ())])


def _contains(prompt: str, words: list[str]) -> bool:
    return re.search(rf"(?<![\w-])(?:{'|'.join(words)})(?![\w-])", prompt, re.I) is not None


def _words(space: AttributeSpace, k: int) -> dict[str, str]:
    """Return attribute -> word of class ``k``, in the order of English adjectives."""
    if wordless := [name for name in space.names if name not in WORDS]:
        raise UserError(f"there are no words for the classes of {wordless[0]}: this method cannot balance it")
    indices = np.unravel_index(k, [len(classes) for classes in space.classes.values()])
    index = dict(zip(space.names, map(int, indices), strict=True))
    return {name: WORDS[name][space.classes[name][index[name]]] for name in WORDS if name in index}


def _subject(prompt: str) -> re.Match[str]:
    """Find article and noun, the first ones after "of": "a picture of a cook" is about the cook."""
    matches = list(SUBJECT.finditer(prompt))
    if not matches:
        raise UserError(
            f"the prompt {prompt!r} has no subject to describe: write it with an article, "
            "like 'a photo of a nurse'"
        )
    return next((match for match in matches if match[0].lower().startswith("of ")), matches[0])
