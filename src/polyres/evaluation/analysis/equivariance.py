"""Whether a turned, mirrored, moved, negative, lifted or flattened picture gives the result so changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from polyres.evaluation.analysis.findings import Analysis, Finding, Table
from polyres.evaluation.figures import new_figure
from polyres.model import SRModel
from polyres.scale import Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = Analysis(
    "equivariance",
    "how far the result of a turned, moved, negative, lifted or flattened picture is from the result so changed",
    "error = RMS of f(Tx) - Tf(x) in grey levels of 255; flips and quarter turns over the whole result; moves by whole "
    "periods of the scale, away from the borders by the network's reach or a quarter of the picture, the smaller; "
    "values x as 255 - x, x + 32 and x / 2, over the whole result, nothing rounded or clipped",
    "polyres; Cohen and Welling, Group Equivariant Convolutional Networks, arXiv 1602.07576 (the property)",
)

#: (N, C, H, W) to the same, turned or mirrored.
Turn: TypeAlias = Callable[[Tensor], Tensor]

TURNS: Mapping[str, Turn] = {
    "flip left-right": lambda image: image.flip(-1),
    "flip up-down": lambda image: image.flip(-2),
    "half turn": lambda image: image.flip(-2, -1),
    "quarter turn": lambda image: image.rot90(1, (-2, -1)),
    "three quarter turns": lambda image: image.rot90(3, (-2, -1)),
    "transpose": lambda image: image.mT,
    "anti-transpose": lambda image: image.mT.flip(-2, -1),
}

#: Values in [0, 1] to others, by a line.
LINES: Mapping[str, tuple[float, float]] = {
    "negative": (-1, 1),
    "lifted by 32 levels": (1, 32 / 255),
    "half the contrast": (0.5, 0),
}


def find(models: Mapping[str, SRModel], scale: Scale, image: Tensor) -> Finding:
    """The finding for every model at ``scale`` on ``image`` (1, C, H, W) in [0, 1]."""
    errors = {
        name: {
            **turn_errors(m, scale, image),
            **move_errors(m, scale, image),
            **value_errors(m, scale, image),
        }
        for name, m in models.items()
    }
    rows = [(name, kind, rms) for name, kinds in errors.items() for kind, rms in kinds.items()]

    def draw() -> Figure:
        figure = new_figure(7, 3.6)
        axes, kinds = figure.add_subplot(), list(next(iter(errors.values())))
        width = 0.8 / len(errors)
        for index, (name, found) in enumerate(errors.items()):
            places = [place + index * width for place in range(len(kinds))]
            axes.bar(places, [found.get(kind, 0) for kind in kinds], width, label=name)
        axes.set_xticks(range(len(kinds)), kinds, rotation=30, ha="right")
        axes.set(ylabel="RMS error (grey levels)", title=f"×{scale}")
        axes.legend()
        return figure

    worst = max(rows, key=lambda row: row[2])
    return Finding(
        ABOUT,
        f"the largest error is {worst[2]:.3g} grey levels ({worst[0]}, {worst[1]})",
        Table(("model", "transform", "rms_grey_levels"), rows),
        draw,
    )


@torch.no_grad()
def turn_errors(model: SRModel, scale: Scale, image: Tensor) -> dict[str, float]:
    """RMS error in grey levels for each flip and turn; those that swap the axes only where both scales agree."""
    straight = model(image, scale)
    errors = {}
    for name, turn in TURNS.items():
        if scale.is_uniform or turn(image.new_empty(1, 1, 2, 3)).shape[-1] == 3:
            errors[name] = _rms(model(turn(image).contiguous(), scale) - turn(straight))
    return errors


@torch.no_grad()
def move_errors(model: SRModel, scale: Scale, image: Tensor) -> dict[str, float]:
    """RMS error in grey levels for moves by one period of the scale, and by two: down, right, both."""
    (qy, qx), (py, px) = scale.period, scale.phases
    height, width = image.shape[-2:]
    reach = model.context if model.context is not None else max(height, width)
    margins = [min(-(-reach // q), side // (4 * q)) * p for q, p, side in ((qy, py, height), (qx, px, width))]
    straight, errors = model(image, scale), {}
    for down, right in ((1, 0), (0, 1), (1, 1), (2, 2)):
        moved = model(image[..., down * qy :, right * qx :].contiguous(), scale)
        difference = moved - straight[..., down * py :, right * px :]
        rows, columns = (slice(m, side - m) for m, side in zip(margins, difference.shape[-2:], strict=True))
        errors[f"move {down * qy} down, {right * qx} right"] = _rms(difference[..., rows, columns])
    return errors


@torch.no_grad()
def value_errors(model: SRModel, scale: Scale, image: Tensor) -> dict[str, float]:
    """RMS error in grey levels for the picture's negative, and for it lifted and flattened."""
    straight = model(image, scale)
    return {
        name: _rms(model(factor * image + lift, scale) - (factor * straight + lift))
        for name, (factor, lift) in LINES.items()
    }


def _rms(difference: Tensor) -> float:
    return 255 * float(difference.double().square().mean().sqrt())
