"""The curve of a run as a picture: loss and gains of validation PSNR over steps."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from polyres.files import replacing

Points = Sequence[tuple[float, float]]

_SIZE = 960, 320
_MARGIN = 64, 28
_COLOURS = ("#1f5fa8", "#c8501e", "#2f8a3c", "#7a3fa0", "#8a6d1f", "#b0307a", "#3f8f98", "#555555")


def draw_curve(folder: Path) -> None:
    """Write ``curve.png`` from ``log.jsonl`` in ``folder``: the loss above, PSNR gained at each scale below."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [(r["step"], r["loss"]) for r in lines if r["kind"] == "train" and r["loss"] is not None]
    measured = [r for r in lines if r["kind"] == "validation"]
    names = [key for key in (measured[0] if measured else {}) if key.startswith("psnr_")]
    psnr = {
        name.removeprefix("psnr_"): [(r["step"], r[name]) for r in measured if r.get(name) is not None]
        for name in names
    }
    panels = [_panel({"loss": _smooth(losses)}, logarithmic=True)]
    if psnr:
        panels.append(_panel(_gains(psnr), form="{:+.3f} dB"))
    whole = Image.new("RGB", (_SIZE[0], _SIZE[1] * len(panels)), "white")
    for index, panel in enumerate(panels):
        whole.paste(panel, (0, index * _SIZE[1]))
    buffer = io.BytesIO()
    whole.save(buffer, "png")
    with replacing(folder / "curve.png") as stream:
        stream.write(buffer.getvalue())


def _panel(curves: Mapping[str, Points], logarithmic: bool = False, form: str = "{:.4g}") -> Image.Image:
    """One set of axes; its ends are written beside them, upright values by ``form``."""
    image = Image.new("RGB", _SIZE, "white")
    draw = ImageDraw.Draw(image)
    (width, height), (left, top) = _SIZE, _MARGIN
    draw.rectangle((left, top, width - top, height - top), outline="#999999")
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return image
    ends = [f(p[axis] for p in points) for axis in (0, 1) for f in (min, max)]
    scaled = math.log if logarithmic and ends[2] > 0 else float
    low, high = scaled(ends[2]), scaled(ends[3])

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = (point[0] - ends[0]) / max(ends[1] - ends[0], 1e-12)
        up = (scaled(point[1]) - low) / max(high - low, 1e-12)
        return left + across * (width - top - left), height - top - up * (height - 2 * top)

    draw.text((4, top), form.format(ends[3]), fill="black")
    draw.text((4, height - top - 12), form.format(ends[2]), fill="black")
    draw.text((left, height - top + 6), f"step {ends[0]:.0f}", fill="black")
    draw.text((width - top, height - top + 6), f"{ends[1]:.0f}", fill="black", anchor="ra")
    for index, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        draw.line([place(point) for point in curve], fill=colour, width=2)
        draw.text((left + 8 + 110 * index, 8), name, fill=colour)
    return image


def _gains(curves: Mapping[str, Points]) -> dict[str, Points]:
    """Each curve less where it begins, its name with its end.

    Scales are many dB apart and gain tenths: on one axis their curves would be flat.
    """
    return {
        f"{name} {curve[-1][1]:.2f} dB": [(step, value - curve[0][1]) for step, value in curve]
        for name, curve in curves.items()
        if curve
    }


def _smooth(points: Points, keep: float = 0.9) -> Points:
    """Running means, unbiased at the beginning."""
    result, mean, weight = [], 0.0, 0.0
    for step, value in points:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        result.append((step, mean / weight))
    return result
