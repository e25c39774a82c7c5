"""Skin tone read off the pixels of a face, on the ten tones of the Monk scale; no network and no training.

It measures a colour in a picture, light and make-up included; it says nothing about a person's race.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

MONK = (
    "f6ede4", "f3e7db", "f7ead0", "eadaba", "d7bd96", "a07e56", "825c43", "604134", "3a312a", "292420",
)  # fmt: skip
"""The ten tones, light to dark, as sRGB; Ellis Monk, "Monk Skin Tone Scale" (2019), skintone.google."""
SIZE = 64
HUE = (30.0, 100.0)
"""Degrees in the a*b* plane; the tones of the scale lie between 48 and 89."""
CHROMA = (3.0, 60.0)
"""The darkest tone of the scale has 3.8, less than the usual rules on Cb and Cr take for skin."""
LEAST_SHARE = 0.1
"""A face with less skin-coloured pixels has no readable tone: a greyscale photograph, a mask."""
SPREAD = 5.0
"""CIELAB units of the Gaussian around a reading: how soft probabilities are, never which tone is nearest."""

_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_WHITE = (0.95047, 1.0, 1.08883)


def srgb_to_lab(colours: "Tensor") -> "Tensor":
    """Return CIELAB (D65, 2 degrees) of sRGB colours in [0, 1]; channels are the second axis; differentiable.

    References
    ----------
    IEC 61966-2-1 (sRGB), CIE 15 (CIELAB).

    Examples
    --------
    White is as light as can be:

    >>> round(float(srgb_to_lab(torch.ones(1, 3))[0, 0]), 3)
    100.0
    """
    colours = colours.clamp(0, 1)
    linear = torch.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("ij,nj...->ni...", colours.new_tensor(_TO_XYZ), linear)
    xyz = xyz / colours.new_tensor(_WHITE).view(1, 3, *[1] * (colours.ndim - 2))
    knee = 6 / 29
    # clamped before the root, whose slope at 0 is infinite
    root = torch.where(xyz > knee**3, xyz.clamp(min=knee**3) ** (1 / 3), xyz / (3 * knee**2) + 4 / 29)
    x, y, z = root.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def monk_lab() -> "Tensor":
    """Return the 10 x 3 CIELAB coordinates of the Monk scale.

    Examples
    --------
    >>> tones = monk_lab()
    >>> tuple(tones.shape), bool(tones[0, 0] > tones[9, 0])
    ((10, 3), True)
    """
    return srgb_to_lab(torch.tensor([list(bytes.fromhex(tone)) for tone in MONK]) / 255)


def typology_angle(lab: "Tensor") -> "Tensor":
    """Individual typology angle ``ITA = atan((L* - 50) / b*)`` in degrees of N x 3 colours, high for light.

    References
    ----------
    Chardon, Cretois & Hourseau, "Skin colour typology and suntanning pathways", 1991.

    Examples
    --------
    >>> round(float(typology_angle(torch.tensor([[60.0, 0.0, 10.0]]))), 3)
    45.0
    """
    return torch.rad2deg(torch.atan2(lab[:, 0] - 50, lab[:, 2]))


def skin_colour(faces: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return the colour of the skin in N face crops, N x 3 in CIELAB, and the share of skin-coloured pixels.

    Of the pixels in the ellipse that fills the crop, those with the hue and the chroma of skin count; of
    these, the half between the quartiles of lightness, which leaves out highlights, shadows and most hair.
    The colour is their mean, which withstands a quarter of outliers on either side, and unlike a median has a
    gradient to all of its pixels.

    Parameters
    ----------
    faces
        N x 3 x H x W in [0, 1], each filled by one face.

    Examples
    --------
    A face all in the fifth tone of the scale:

    >>> tone = torch.tensor(list(bytes.fromhex(MONK[4]))) / 255
    >>> colour, share = skin_colour(tone.view(1, 3, 1, 1).expand(1, 3, 8, 8))
    >>> torch.allclose(colour, monk_lab()[4:5], atol=0.01), float(share)
    (True, 1.0)
    """
    lab = srgb_to_lab(faces.float()).flatten(2)
    inside = _ellipse(faces.shape[2], faces.shape[3], faces.device)
    lightness, a, b = lab.detach().unbind(1)
    hue, chroma = torch.rad2deg(torch.atan2(b, a)), torch.hypot(a, b)
    skin = inside & (hue > HUE[0]) & (hue < HUE[1]) & (chroma > CHROMA[0]) & (chroma < CHROMA[1])
    of_skin = lightness.masked_fill(~skin, torch.nan)
    low, high = torch.nanquantile(of_skin, lightness.new_tensor([0.25, 0.75]), dim=1)[..., None]
    core = (skin & (lightness >= low - 1e-3) & (lightness <= high + 1e-3))[:, None].float()
    colour = (lab * core).sum(2) / core.sum(2).clamp(min=1)
    return colour, skin.float().sum(1) / inside.sum()


def _ellipse(height: int, width: int, device: "torch.device") -> "Tensor":
    y = (torch.arange(height, device=device) + 0.5) / height * 2 - 1
    x = (torch.arange(width, device=device) + 0.5) / width * 2 - 1
    return (y[:, None] ** 2 + x**2 <= 1).flatten()


class SkinToneReader(nn.Module):
    """Reads ``skin_tone`` off the face box itself, not enlarged.

    Examples
    --------
    A face all in the fifth tone of the scale, whose number is 4:

    >>> tone = torch.tensor(list(bytes.fromhex(MONK[4]))) / 255
    >>> SkinToneReader()(tone.view(1, 3, 1, 1).expand(1, 3, 8, 8))["skin_tone"].argmax(1).tolist()
    [4]
    """

    image_size, tight = SIZE, True
    tones: "Tensor"

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("tones", monk_lab())

    def forward(self, faces: "Tensor") -> "dict[str, Tensor]":
        r"""Return N x 10 logits and, as "readable", N ones and zeros.

        .. math:: \ell_k = -\lVert c - t_k \rVert^2 / (2 \sigma^2)

        with the colour c of the skin and the tone t_k in CIELAB: the likeliest tone is the nearest one.
        """
        colour, share = skin_colour(faces)
        distance = (colour[:, None] - self.tones).square().sum(2)
        return {"skin_tone": -distance / (2 * SPREAD**2), "readable": (share >= LEAST_SHARE).float()}
