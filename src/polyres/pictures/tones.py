"""Tone curves of colour profiles: from stored values to light and back, so that work may be done in another space.

Only the curves are exchanged; the primaries stay those of the profile. Colours outside sRGB are therefore never
clipped, and what was not changed comes back to the bit, at 8 and at 16 bits.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np

from polyres.errors import PictureError
from polyres.pictures.picture import WHITE, Pixels

#: Where the work is done: in the values as they are stored, with the tone curve of sRGB, or in linear light.
Space = Literal["own", "srgb", "linear"]

_SAMPLES = np.linspace(0, 1, 65536)
#: Letters that the parameters of ``para`` curves have, by the number of their kind (ICC.1, 10.18).
_PARAMETERS = ("g", "gab", "gabc", "gabcd", "gabcdef")


@dataclass(frozen=True, eq=False)
class Curve:
    """One channel's curve: the light of 65,536 stored values from black to white, rising."""

    light: Pixels

    def decoded(self, values: Pixels) -> Pixels:
        """The light, 0 to 1, of stored ``values``, 0 to 1."""
        return np.interp(values, _SAMPLES, self.light)

    def encoded(self, light: Pixels) -> Pixels:
        """The stored values of ``light``."""
        return np.interp(light, self.light, _SAMPLES)


def _srgb(values: Pixels) -> Pixels:
    """The light of sRGB ``values`` (IEC 61966-2-1)."""
    light: Pixels = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return light


SRGB = Curve(_srgb(_SAMPLES))


def to_space(pixels: Pixels, profile: bytes | None, space: Space) -> Pixels:
    """``pixels`` (H, W, 1 or 3) of any depth, stored under ``profile`` (None: sRGB), in ``space``, float32.

    Raises:
        PictureError: a profile without tone curves.
    """
    if space == "own" or (space == "srgb" and profile is None):
        return np.divide(pixels, WHITE[pixels.dtype], dtype=np.float32)
    result = np.empty(pixels.shape, np.float32)
    for channel, curve in enumerate(curves(profile, pixels.shape[2])):
        light = curve.decoded(pixels[:, :, channel] / WHITE[pixels.dtype])
        result[:, :, channel] = SRGB.encoded(light) if space == "srgb" else light
    return result


def from_space(values: Pixels, profile: bytes | None, space: Space) -> Pixels:
    """What :func:`to_space` did, undone: stored values in [0, 1], float32."""
    if space == "own" or (space == "srgb" and profile is None):
        return values
    result = np.empty(values.shape, np.float32)
    for channel, curve in enumerate(curves(profile, values.shape[2])):
        light = values[:, :, channel]
        result[:, :, channel] = curve.encoded(SRGB.decoded(light) if space == "srgb" else light)
    return result


def curves(profile: bytes | None, channels: int) -> list[Curve]:
    """The curve of each channel under ``profile``.

    Raises:
        PictureError: a profile that is damaged or has tables instead of curves, as those of printers.
    """
    if profile is None:
        return [SRGB] * channels
    names = [b"kTRC"] if channels == 1 else [b"rTRC", b"gTRC", b"bTRC"]
    try:
        tags = _tags(profile)
        if names == [b"kTRC"] and b"kTRC" not in tags:
            names = [b"gTRC"]  # grey pixels under a profile for RGB
        return [_curve(tags[name]) for name in names]
    except (KeyError, IndexError, ValueError, struct.error):
        raise PictureError(
            "its colour profile has no tone curves; work in its own values instead (--space own)"
        ) from None


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """The tags of a profile by signature."""
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * index) for index in range(min(count, 256)))
    return {name: profile[start : start + size] for name, start, size in entries}


def _curve(tag: bytes) -> Curve:
    """The curve in a ``curv`` or ``para`` tag."""
    if tag.startswith(b"curv"):
        light = _sampled(tag)
    elif tag.startswith(b"para"):
        light = _parametric(tag)
    else:
        raise ValueError("a tag that holds no curve")
    if not (np.isfinite(light).all() and light[0] < light[-1]):
        raise ValueError("a curve that does not rise")
    return Curve(np.maximum.accumulate(np.clip(light, 0, 1)))


def _sampled(tag: bytes) -> Pixels:
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 0:
        return _SAMPLES
    points = np.frombuffer(tag, ">u2", count, 12)
    if count == 1:
        gamma: Pixels = _SAMPLES ** (points[0] / 256)
        return gamma
    return np.interp(_SAMPLES, np.linspace(0, 1, count), points / 65535)


def _parametric(tag: bytes) -> Pixels:
    (kind,) = struct.unpack_from(">H", tag, 8)
    letters = _PARAMETERS[kind]
    given = np.frombuffer(tag, ">i4", len(letters), 12) / 65536
    p = {"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0, "e": 0.0, "f": 0.0}
    p |= dict(zip(letters, given.tolist(), strict=True))
    power = np.maximum(p["a"] * _SAMPLES + p["b"], 0) ** p["g"]
    if kind in (1, 2):  # below -b/a a constant, which is c in the third kind
        low = -p["b"] / p["a"]
        light: Pixels = np.where(low <= _SAMPLES, power + p["c"], p["c"])
    else:
        light = np.where(p["d"] <= _SAMPLES, power + p["e"], p["c"] * _SAMPLES + p["f"])
    return light
