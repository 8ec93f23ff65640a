"""The options that say how large a result shall be, and what they come to: one target for every picture of a run."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer

from polyres.errors import ScaleError, UsageError, nearest
from polyres.scale import Scale

if TYPE_CHECKING:
    from polyres.upscale import Target
    from polyres.upscale.targets import Mode

_PANEL = "Size of the result"
_MODES = ("fit", "fill", "stretch")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def _option(*names: str, unit: str | None = None, help: str) -> Any:
    return typer.Option(*names, metavar=unit, help=help, rich_help_panel=_PANEL)


ScaleOption: TypeAlias = Annotated[
    str | None, _option("-s", "--scale", help="Factor, such as 2, 3, 2.5 or 5/2. Default: 2.")
]
WidthOption: TypeAlias = Annotated[
    str | None,
    _option("-w", "--width", unit="PIXELS", help="Width; the height follows. With --height as --size."),
]
HeightOption: TypeAlias = Annotated[
    str | None, _option("--height", unit="PIXELS", help="Height; the width follows.")
]
SizeOption: TypeAlias = Annotated[
    str | None, _option("--size", unit="WxH", help="Both sides, such as 1920x1080.")
]
ModeOption: TypeAlias = Annotated[
    str | None,
    _option(
        "--mode",
        unit="fit|fill|stretch",
        help="With both sides given: fit within them (default), fill them and cut off what is beyond, as much on "
        "either side, or stretch to them. Only stretch changes the aspect.",
    ),
]
ShortSideOption: TypeAlias = Annotated[
    str | None, _option("--short-side", unit="PIXELS", help="The shorter side.")
]
LongSideOption: TypeAlias = Annotated[
    str | None, _option("--long-side", unit="PIXELS", help="The longer side.")
]
MaxPixelsOption: TypeAlias = Annotated[
    str | None,
    _option(
        "--max-pixels",
        unit="NUMBER",
        help="With any of these: results of more pixels, such as 50M, are made as large as this allows instead.",
    ),
]


def target_of(
    scale: str | None = None,
    width: str | None = None,
    height: str | None = None,
    size: str | None = None,
    mode: str | None = None,
    short_side: str | None = None,
    long_side: str | None = None,
    max_pixels: str | None = None,
) -> Target:
    """The target that the options mean; x2 if they name none.

    Raises:
        UsageError: options that contradict each other, or are no numbers or sizes.
    """
    from polyres.upscale.targets import Target

    _check_one_way(scale, width or height, size, short_side, long_side)
    sides = _sides(size) if size is not None else (_pixels("--width", width), _pixels("--height", height))
    if mode is not None and mode not in _MODES:
        raise UsageError(f"--mode is one of {', '.join(_MODES)}; got '{mode}'.{nearest(mode, _MODES)}")
    if mode is not None and None in sides:
        raise UsageError(
            "--mode says what to do where both sides are given; add --size, or --width and --height"
        )
    named = (width, height, size, short_side, long_side) != (None,) * 5
    return Target(
        scale=None if named else Scale.of("2" if scale is None else scale),
        width=sides[0],
        height=sides[1],
        short_side=_pixels("--short-side", short_side),
        long_side=_pixels("--long-side", long_side),
        mode=cast("Mode", mode or "fit"),
        max_pixels=_count(max_pixels),
    )


def _check_one_way(
    scale: str | None, side: str | None, size: str | None, short_side: str | None, long_side: str | None
) -> None:
    """Refuse two ways of saying how large the result is."""
    ways = {
        "--scale": scale,
        "--width or --height": side,
        "--size": size,
        "--short-side": short_side,
        "--long-side": long_side,
    }
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} contradict each other; give one of {', '.join(ways)}")


def _sides(text: str) -> tuple[int, int]:
    """``1920x1080`` as (width, height)."""
    found = re.fullmatch(r"\s*(\d+)\s*[x×*]\s*(\d+)\s*", text, re.IGNORECASE)
    if not found or not (int(found[1]) and int(found[2])):
        raise ScaleError(
            f"--size is WIDTHxHEIGHT in whole pixels, such as 1920x1080; got '{text}'. One side alone is --width or "
            "--height"
        )
    return int(found[1]), int(found[2])


def _pixels(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not text.strip().isdecimal() or not int(text):
        raise ScaleError(f"{option} is a whole number of pixels, at least 1; got '{text}'")
    return int(text)


def _count(text: str | None) -> int | None:
    """``50M``, ``50MP``, ``2.5M`` or ``50000000`` as a number of pixels."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?)(?:p|px)?\s*", text, re.IGNORECASE)
    count = int(Fraction(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if count < 1:
        raise ScaleError(f"--max-pixels is a number of pixels, such as 50000000 or 50M; got '{text}'")
    return count
