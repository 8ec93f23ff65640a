"""Sub-pixel convolution at any rational scale: one strided convolution, depth to space, crop.

At scale ``p/q`` the ``p`` phases of an axis (:func:`polyres.scale.axis_taps`) look at up to ``q`` different LR
pixels. Their kernels are embedded into one window of ``q + k - 1`` taps, which then moves by ``q`` LR pixels.
For integers this is the ordinary convolution and pixel shuffle. Derivation: IGConv specification, section 6.2.
"""

from __future__ import annotations

from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyres.scale import Scale, axis_taps


def embed(kernels: Tensor, scale: Scale) -> Tensor:
    """The strided convolution's weight that applies every tap's kernel at its place.

    Args:
        kernels: (R, Ty, Tx, C, k, k): for each of ``R`` output channels, a kernel per pair of taps of the axes.
        scale: the scale whose :func:`axis_taps` they are.

    Returns:
        (R * py * px, C, qy + k - 1, qx + k - 1); output channel ``(r * py + a) * px + b`` is row ``r`` at
        phase (a, b), the order that :func:`depth_to_space` expects.
    """
    if not scale.is_integer:
        kernels = _embed_axis(kernels, scale.y, tap_dim=1, row_dim=4)
        kernels = _embed_axis(kernels, scale.x, tap_dim=2, row_dim=5)
    return kernels.flatten(0, 2)


def _embed_axis(kernels: Tensor, factor: Fraction, tap_dim: int, row_dim: int) -> Tensor:
    """``kernels`` with the taps of one axis gathered into its phases and its kernel rows into the window."""
    p, q, taps, size = factor.numerator, factor.denominator, axis_taps(factor), kernels.shape[row_dim]
    window = q + size - 1
    index = [tap.phase * window + tap.offset + row for tap in taps for row in range(size)]
    weight = [float(tap.weight) for tap in taps for _ in range(size)]
    flat = kernels.movedim((tap_dim, row_dim), (-2, -1)).flatten(-2)
    # The two kernels of a phase on a border overlap, so they are added, not assigned.
    placed = flat.new_zeros(*flat.shape[:-1], p * window).index_add(
        -1, torch.tensor(index, device=flat.device), flat * flat.new_tensor(weight)
    )
    return placed.reshape(*placed.shape[:-1], p, window).movedim((-2, -1), (tap_dim, row_dim))


def depth_to_space(maps: Tensor, phases: tuple[int, int]) -> Tensor:
    """(N, R * py * px, H, W) to (N, R, H * py, W * px); ``pixel_shuffle`` if both phases agree."""
    py, px = phases
    if py == px:
        return F.pixel_shuffle(maps, py)
    count, channels, height, width = maps.shape
    blocks = maps.reshape(count, channels // (py * px), py, px, height, width)
    return blocks.permute(0, 1, 4, 2, 5, 3).reshape(count, -1, height * py, width * px)


def phase_conv2d(features: Tensor, weight: Tensor, bias: Tensor | None, scale: Scale) -> Tensor:
    """Convolve with an embedded ``weight`` and put the phases in their places.

    Features count as zero outside the picture, as in an ordinary zero-padded convolution.

    Args:
        features: (N, C, H, W).
        weight: (R * py * px, C, qy + k - 1, qx + k - 1), from :func:`embed`.
        bias: (R * py * px,) or None.

    Returns:
        (N, R, round(H * scale), round(W * scale)).
    """
    height, width = features.shape[-2:]
    (qy, qx), (py, px) = scale.period, scale.phases
    rows, columns = scale.output_size(height, width)
    lead_y, lead_x = _lead(height, qy), _lead(width, qx)
    padding = (weight.shape[-2] - qy) // 2 + lead_y * qy, (weight.shape[-1] - qx) // 2 + lead_x * qx
    if beside := spare(width, qx):
        features = F.pad(features, (0, beside))
    maps = F.conv2d(features, weight, bias, stride=(qy, qx), padding=padding)
    if lead_y or lead_x:
        maps = maps[..., lead_y:, lead_x:]
    return depth_to_space(maps, (py, px))[..., :rows, :columns]


def spare(width: int, period: int) -> int:
    """Columns of zeros to put beside a picture of one period at most; none beside others.

    oneDNN's strided convolutions of bfloat16 on matrix units (torch 2.13) read past features that make a single column.
    """
    return period if isinstance(width, int) and period > 1 and width <= period else 0


def _lead(size: int, period: int) -> int:
    """Periods by which the convolution starts before the picture: one if the last period is incomplete.

    It needs zeros on the far side, and a convolution's own padding is as much on either side. To make a period too
    many costs far less than a padded copy of the features. Of a size that is a symbol, in an export, nothing is known.
    """
    return int(period > 1 and not (isinstance(size, int) and size % period == 0))


class PhaseConv(nn.Conv2d):
    """A plain convolution whose output channels are the phases of a picture of ``scale`` times the size.

    Args:
        in_channels: channels of the features.
        rows: channels of the picture.
        scale: where the phases lie.
        kernel_size: side of each phase's kernel, odd; the window is ``q - 1`` taps larger.
        bias: whether there is one.
    """

    def __init__(
        self, in_channels: int, rows: int, scale: Scale, kernel_size: int = 3, bias: bool = True
    ) -> None:
        (qy, qx), (py, px) = scale.period, scale.phases
        window = (qy + kernel_size - 1, qx + kernel_size - 1)
        super().__init__(in_channels, rows * py * px, window, stride=(qy, qx), bias=bias)
        self.scale = scale

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, scale: Scale) -> PhaseConv:
        """A convolution with a copy of ``weight``, laid out as :func:`embed` does, and of ``bias``."""
        (qy, _), (py, px) = scale.period, scale.phases
        rows, kernel_size = weight.shape[0] // (py * px), weight.shape[-2] - qy + 1
        conv = cls(weight.shape[1], rows, scale, kernel_size, bias is not None).to(weight)
        conv.weight = nn.Parameter(weight.detach().clone())
        if bias is not None:
            conv.bias = nn.Parameter(bias.detach().clone())
        return conv

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, R, round(H * scale), round(W * scale))."""
        return phase_conv2d(features, self.weight, self.bias, self.scale)
