"""Draw a `Person` as a flat 64 x 64 portrait: drawn with Pillow at four times the size, then box-downsampled.

Purely symbolic: palettes and shapes stand for classes so that small networks read them. It depicts nobody.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from fairbench.portraits.icons import draw_icon
from fairbench.portraits.world import Person

SIZE = 64
SCALE = 4
INK = "#22252b"

SKIN = {
    "WMELH": [(252, 214, 198), (244, 200, 182), (236, 186, 164)],
    "Asian": [(246, 221, 174), (240, 212, 162), (249, 227, 184)],
    "Indian": [(188, 126, 78), (174, 114, 70), (198, 138, 90)],
    "Black": [(104, 66, 44), (88, 56, 38), (120, 78, 54)],
}
HAIR = {
    "WMELH": [(226, 184, 98), (150, 92, 48), (176, 78, 40), (110, 72, 48)],
    "Asian": [(24, 26, 48), (32, 30, 58)],
    "Indian": [(58, 30, 22), (44, 22, 18)],
    "Black": [(30, 24, 22), (44, 34, 30)],
}
GREY = [(205, 207, 212), (226, 227, 230), (180, 183, 190)]
Colour = tuple[int, int, int]


class _Sketch:
    """A canvas addressed in the 64-unit coordinates of the final picture."""

    def __init__(self, background: Colour) -> None:
        self.image = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), background)
        self.draw = ImageDraw.Draw(self.image)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour | str) -> None:
        self.draw.ellipse(_scaled((x - rx, y - ry, x + rx, y + ry)), fill=fill)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour | str) -> None:
        self.draw.rectangle(_scaled((left, top, right, bottom)), fill=fill)

    def polygon(self, points: Sequence[tuple[float, float]], fill: Colour | str) -> None:
        self.draw.polygon([tuple(_scaled(point)) for point in points], fill=fill)

    def line(self, points: Sequence[tuple[float, float]], fill: Colour | str, width: float) -> None:
        self.draw.line([tuple(_scaled(p)) for p in points], fill=fill, width=round(width * SCALE))

    def arc(
        self, x: float, y: float, rx: float, ry: float, angles: tuple[int, int], fill: Colour, width: float
    ) -> None:
        box = _scaled((x - rx, y - ry, x + rx, y + ry))
        self.draw.arc(box, *angles, fill=fill, width=round(width * SCALE))


def _scaled(values: Sequence[float]) -> list[float]:
    return [value * SCALE for value in values]


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, round(channel * factor)) for channel in colour)
    return red, green, blue


def draw_person(person: Person) -> Image.Image:
    """Return the 64 x 64 RGB portrait of ``person``; the same person always gives the same pixels."""
    rng = np.random.default_rng(person.seed)
    look, context = person.role.look, person.context
    background = ImageColor.getrgb(look.background)[:3]
    sketch = _Sketch(_context_background(background, context))
    _pattern(sketch, look.pattern, background, context)
    _scenery_behind(sketch, context, rng)
    x, y = 32 + rng.uniform(-2.5, 2.5), 30.5 + rng.uniform(-1.5, 1.5)
    if person.face:
        skin, hair = _colours(person, rng)
        _hair_behind(sketch, person, hair, x, y, rng)
        sketch.box(x - 4.5, y + 8, x + 4.5, 56, _shade(skin, 0.88))
    _clothes(sketch, look.clothes, look.style, x)
    if person.face:
        _head(sketch, person, skin, hair, x, y, rng)
    if look.icon != "none":
        sketch.ellipse(11, 11, 9.6, 9.6, "#ffffff")
        centre = (11 * SCALE, 11 * SCALE)
        draw_icon(sketch.draw, look.icon, centre, 6.6 * SCALE, _icon_colour(look.clothes), "#ffffff")
    _scenery_before(sketch, context, rng)
    return sketch.image.resize((SIZE, SIZE), Image.Resampling.BOX)


def draw_people(people: Sequence[Person]) -> np.ndarray:
    """Return the portraits of ``people`` as an N x 64 x 64 x 3 array of uint8."""
    return np.stack([np.asarray(draw_person(person)) for person in people])


def _icon_colour(clothes: str) -> str:
    """Return the clothes' hue, dark enough to stand out on white."""
    red, green, blue = (channel / 255 for channel in ImageColor.getrgb(clothes)[:3])
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    dark = colorsys.hls_to_rgb(hue, min(lightness, 0.35), saturation)
    return "#" + "".join(f"{round(channel * 255):02x}" for channel in dark)


def _colours(person: Person, rng: np.random.Generator) -> tuple[Colour, Colour]:
    race = person.label("race")
    skin = SKIN[race][rng.integers(len(SKIN[race]))]
    palette = GREY if person.label("age") == "old" else HAIR[race]
    return _shade(skin, rng.uniform(0.97, 1.03)), palette[rng.integers(len(palette))]


def _context_background(background: Colour, context: str | None) -> Colour:
    return {"at night": (26, 30, 62), "at sunset": (250, 160, 90)}.get(context or "", background)


def _pattern(sketch: _Sketch, pattern: str, background: Colour, context: str | None) -> None:
    tone = _shade(_context_background(background, context), 0.86)
    match pattern:
        case "stripes":
            for left in range(0, SIZE, 12):
                sketch.box(left, 0, left + 5, SIZE, tone)
        case "dots":
            for row in range(4, SIZE, 12):
                for column in range(4, SIZE, 12):
                    sketch.ellipse(column, row, 2.6, 2.6, tone)
        case "split":
            sketch.polygon([(0, 34), (SIZE, 14), (SIZE, SIZE), (0, SIZE)], tone)


def _scenery_behind(sketch: _Sketch, context: str | None, rng: np.random.Generator) -> None:
    if context == "at night":
        for _ in range(14):
            sketch.ellipse(rng.uniform(0, SIZE), rng.uniform(0, 40), 0.8, 0.8, "#ffffff")
        sketch.ellipse(54, 9, 5.5, 5.5, "#f7f1c6")
    elif context == "at sunset":
        sketch.ellipse(54, 22, 8, 8, "#fff0a0")
        sketch.box(0, 44, SIZE, SIZE, "#7a3b69")


def _scenery_before(sketch: _Sketch, context: str | None, rng: np.random.Generator) -> None:
    if context == "in the snow":
        for _ in range(34):
            sketch.ellipse(rng.uniform(0, SIZE), rng.uniform(0, SIZE), 1.2, 1.2, "#ffffff")
        sketch.box(0, 59, SIZE, SIZE, "#ffffff")
    elif context == "in the rain":
        for _ in range(26):
            left, top = rng.uniform(0, SIZE), rng.uniform(-4, SIZE)
            sketch.line([(left, top), (left - 2, top + 6)], "#4a7fd0", 0.9)
    elif context == "as an oil painting":
        for inset, colour in enumerate(("#6b4a12", "#c99a2e", "#e9c65a", "#8a641c")):
            sketch.draw.rectangle(
                _scaled((inset, inset, SIZE - inset - 0.25, SIZE - inset - 0.25)), outline=colour, width=SCALE
            )
    elif context == "as a comic":
        sketch.draw.rectangle(_scaled((0, 0, SIZE - 0.25, SIZE - 0.25)), outline="#000000", width=2 * SCALE)
        sketch.polygon([(44, 2), (62, 2), (62, 14), (53, 9), (46, 13)], "#ffe100")


def _clothes(sketch: _Sketch, colour: str, style: str, x: float) -> None:
    base = ImageColor.getrgb(colour)[:3]
    sketch.ellipse(x, 68, 25, 17, base)
    match style:
        case "lapels":
            sketch.polygon([(x - 6, 51), (x + 6, 51), (x, 64)], "#ffffff")
            sketch.polygon([(x - 1.5, 53), (x + 1.5, 53), (x + 2, 64), (x - 2, 64)], INK)
        case "apron":
            sketch.box(x - 9, 56, x + 9, SIZE, "#fdfdfd")
        case "vest":
            for left in (x - 14, x + 9):
                sketch.box(left, 52, left + 5, SIZE, "#f4e04d")


def _hair_behind(
    sketch: _Sketch, person: Person, hair: Colour, x: float, y: float, rng: np.random.Generator
) -> None:
    if person.label("gender") == "male":
        return
    length = y + rng.uniform(16, 22)
    if person.label("race") == "Black":
        for angle in np.linspace(-0.25, 1.25, 11) * np.pi:
            sketch.ellipse(x + 12 * np.cos(angle), y - 1 - 13 * np.sin(angle), 5.5, 5.5, hair)
        sketch.box(x - 15, y, x + 15, length - 6, hair)
    else:
        sketch.ellipse(x, y - 3, 15, 15, hair)
        sketch.box(x - 15, y - 2, x + 15, length, hair)


def _head(
    sketch: _Sketch, person: Person, skin: Colour, hair: Colour, x: float, y: float, rng: np.random.Generator
) -> None:
    male = person.label("gender") == "male"
    old = person.label("age") == "old"
    sketch.ellipse(x - 11.3, y + 1, 2.2, 3, _shade(skin, 0.9))
    sketch.ellipse(x + 11.3, y + 1, 2.2, 3, _shade(skin, 0.9))
    sketch.ellipse(x, y, 11, 13.5, skin)
    if male:
        sketch.box(x - 8.5, y + 3, x + 8.5, y + 9.5, skin)
        sketch.ellipse(x, y + 8.5, 8.5, 5.5, skin)
        _beard(sketch, hair, skin, x, y, rng)
    _hair_front(sketch, person, hair, x, y, rng)
    _eyes(sketch, hair, x, y, male)
    sketch.line([(x, y + 1), (x + 1, y + 4), (x - 0.8, y + 4.2)], _shade(skin, 0.72), 0.8)
    _mouth(sketch, person.role.look.feature, skin, x, y, male)
    if old:
        _wrinkles(sketch, _shade(skin, 0.66), x, y)
    elif not male:
        sketch.ellipse(x - 6.5, y + 4.5, 1.8, 1.2, _blush(skin))
        sketch.ellipse(x + 6.5, y + 4.5, 1.8, 1.2, _blush(skin))
    _feature(sketch, person.role.look.feature, skin, x, y)


def _blush(skin: Colour) -> Colour:
    return min(255, skin[0] + 12), round(skin[1] * 0.82), round(skin[2] * 0.82)


def _beard(sketch: _Sketch, hair: Colour, skin: Colour, x: float, y: float, rng: np.random.Generator) -> None:
    kind = rng.choice(["full", "moustache", "stubble", "none"], p=[0.35, 0.2, 0.25, 0.2])
    tone = hair if kind != "stubble" else _shade(skin, 0.78)
    if kind in ("full", "stubble"):
        sketch.draw.chord(_scaled((x - 10, y - 4, x + 10, y + 14)), 10, 170, fill=tone)
        sketch.ellipse(x, y + 8, 3.6, 1.9, skin)
    elif kind == "moustache":
        sketch.ellipse(x, y + 6, 4.2, 1.3, hair)


def _hair_front(
    sketch: _Sketch, person: Person, hair: Colour, x: float, y: float, rng: np.random.Generator
) -> None:
    race, male = person.label("race"), person.label("gender") == "male"
    top, span = y - 11.5, (180, 360)
    if race == "Black":
        for offset in np.linspace(-9, 9, 6):
            sketch.ellipse(x + offset, top + 0.5 + abs(offset) * 0.3, 3.6, 3.6, hair)
    elif race == "Asian":
        sketch.draw.chord(_scaled((x - 11.8, y - 15, x + 11.8, y + 6)), *span, fill=hair)
        sketch.box(x - 9.5, y - 7, x + 9.5, y - 3.6, hair)
    else:
        sketch.draw.chord(_scaled((x - 12, y - 15.5, x + 12, y + 2)), *span, fill=hair)
        side = 1 if rng.random() < 0.5 else -1
        if race == "Indian":
            sketch.line([(x + side * 3, y - 14), (x + side * 3, y - 7)], _shade(hair, 2.2), 0.9)
        sketch.polygon([(x - side * 11, y - 8), (x + side * 11, y - 8), (x + side * 11, y - 1)], hair)
    if male:
        for side in (-1, 1):
            sketch.box(x + side * 10.6 - 1, y - 7, x + side * 10.6 + 1, y + 1, hair)


def _eyes(sketch: _Sketch, hair: Colour, x: float, y: float, male: bool) -> None:
    for side in (-1, 1):
        centre = x + side * 4.8
        sketch.ellipse(centre, y - 0.5, 2.1, 1.5, "#ffffff")
        sketch.ellipse(centre, y - 0.5, 1.2, 1.3, INK)
        brow = 1.5 if male else 0.7
        sketch.line([(centre - 2.4, y - 3.6), (centre + 2.4, y - 3.8)], _shade(hair, 0.7), brow)
        if not male:
            sketch.line([(centre + side * 1.4, y - 1.4), (centre + side * 3.0, y - 2.4)], INK, 0.9)


def _mouth(sketch: _Sketch, feature: str | None, skin: Colour, x: float, y: float, male: bool) -> None:
    lips = _shade(skin, 0.6) if male else (190, 36, 58)
    width = 0.9 if male else 1.5
    match feature:
        case "smile":
            sketch.draw.chord(
                _scaled((x - 5, y + 3.5, x + 5, y + 11.5)), 0, 180, fill="#ffffff", outline=lips
            )
        case "frown":
            sketch.arc(x, y + 10.5, 4.5, 3.2, (190, 350), lips, width + 0.3)
        case "surprise":
            sketch.ellipse(x, y + 8.5, 2.4, 3, (90, 20, 30))
        case _:
            sketch.arc(x, y + 6.6, 3.6, 2.2, (20, 160), lips, width)


def _wrinkles(sketch: _Sketch, tone: Colour, x: float, y: float) -> None:
    for height in (-6.2, -4.9):
        sketch.line([(x - 4.5, y + height), (x + 4.5, y + height)], tone, 0.7)
    for side in (-1, 1):
        sketch.line([(x + side * 3, y + 2.2), (x + side * 7, y + 2.8)], tone, 0.8)
        sketch.line([(x + side * 4, y + 4.5), (x + side * 5.6, y + 8)], tone, 0.8)


def _feature(sketch: _Sketch, feature: str | None, skin: Colour, x: float, y: float) -> None:
    match feature:
        case "glasses" | "sunglasses":
            for side in (-1, 1):
                box = _scaled((x + side * 4.8 - 3.6, y - 3.2, x + side * 4.8 + 3.6, y + 2.4))
                fill = INK if feature == "sunglasses" else None
                sketch.draw.ellipse(box, fill=fill, outline=INK, width=SCALE)
            sketch.line([(x - 1.3, y - 1), (x + 1.3, y - 1)], INK, 1)
        case "hat":
            sketch.box(x - 9, y - 19, x + 9, y - 9, "#7a1f3d")
            sketch.box(x - 15, y - 10.5, x + 15, y - 8, "#7a1f3d")
        case "headphones":
            sketch.arc(x, y - 2, 13.5, 14.5, (180, 360), ImageColor.getrgb("#0aa3a3")[:3], 2)
            for side in (-1, 1):
                sketch.ellipse(x + side * 12.5, y, 3, 4.2, "#0aa3a3")
        case "scarf":
            sketch.box(x - 11, y + 14, x + 11, y + 20, "#d62839")
            sketch.box(x + 2, y + 18, x + 7, y + 32, "#d62839")
        case "freckles":
            for dx, dy in ((-7, 3), (-5.5, 5), (-4, 3.2), (7, 3), (5.5, 5), (4, 3.2)):
                sketch.ellipse(x + dx, y + dy, 0.9, 0.9, _shade(skin, 0.62))
        case "flower":
            for dx, dy in ((-2.6, 0), (2.6, 0), (0, -2.6), (0, 2.6)):
                sketch.ellipse(x + 9 + dx, y - 10 + dy, 2.2, 2.2, "#ff5fa2")
            sketch.ellipse(x + 9, y - 10, 1.8, 1.8, "#ffd23f")
        case "patch":
            sketch.ellipse(x - 4.8, y - 0.5, 3.8, 3.2, INK)
            sketch.line([(x - 11, y - 5), (x + 11, y - 3)], INK, 0.9)
