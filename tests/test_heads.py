"""Heads with weights for each scale: nearest+conv, DySample, and the options of SPConv+."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyres.errors import ConfigError, ScaleError
from polyres.layers.interpolate import bilinear, sample_at
from polyres.scale import Scale
from polyres.upsamplers import UPSAMPLERS, FixedUpsampler
from polyres.upsamplers.dysample import SamplingHead
from polyres.upsamplers.nearest import NearestHead

SCALES = [2, 3, 4, 6]


def head(name: str, scale: object, **options: object) -> FixedUpsampler:
    torch.manual_seed(0)
    upsampler = UPSAMPLERS.make(name, in_channels=4, scales=[scale], **options)
    for parameter in upsampler.parameters():  # small or empty initial values would hide mistakes
        nn.init.normal_(parameter, std=0.3)
    return upsampler.at(scale).double()


def delta(conv: nn.Conv2d) -> None:
    """Make ``conv`` copy its first channels."""
    nn.init.dirac_(conv.weight)
    nn.init.zeros_(conv.bias)


@pytest.mark.parametrize("scale", SCALES)
def test_nearest_conv_enlarges_by_nearest_neighbours(scale: int) -> None:
    module = NearestHead(3, 3, Scale.of(scale), channels=5)
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            delta(conv)
    features = torch.rand(1, 3, 4, 5)
    with torch.no_grad():
        output = module(features, features)
    expected = features.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    assert torch.equal(output, expected)


def test_nearest_conv_has_the_published_slopes() -> None:
    module = NearestHead(1, 1, Scale.of(2), channels=1)
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            delta(conv)
    features = torch.full((1, 1, 3, 3), -1.0)
    with torch.no_grad():
        output = module(features, features)
    # 0.01 after the lead, 0.2 after the stage and after the refinement
    torch.testing.assert_close(output, torch.full((1, 1, 6, 6), -0.01 * 0.2 * 0.2))


@pytest.mark.parametrize(
    ("name", "scale", "options"),
    [
        ("nearest+conv", 2, {"channels": 4}),
        ("nearest+conv", 4, {"channels": 4}),
        ("nearest+conv", 3, {"channels": 4}),
        ("spconv", 3, {}),
        ("spconv", "5/2", {"kernel_size": 5}),
        ("spconv", 2, {"base": "bilinear"}),
        ("spconv", 2, {"base": "nearest"}),
        ("spconv+", 4, {}),
        ("spconv+", 4, {"channels": 6}),
        ("spconv+", 3, {"stage_channels": 2, "kernel_size": 5}),
        ("spconv+", 8, {"channels": 6, "kernel_size": 5, "colour_map": True}),
    ],
)
def test_context_is_what_a_head_reaches(name: str, scale: object, options: dict) -> None:
    module = head(name, scale, **options)
    assert module.context is not None
    features = torch.rand(1, 4, 1, 41, dtype=torch.float64, requires_grad=True)
    image = torch.rand(1, 3, 1, 41, dtype=torch.float64, requires_grad=True)
    output = module(features, image)
    factor = float(Scale.of(scale).x)
    reach = 0
    for column in range(math.floor(20 * factor), math.ceil(21 * factor)):
        grads = torch.autograd.grad(
            output[..., column].sum(), (features, image), retain_graph=True, allow_unused=True
        )
        centre = (column + 0.5) / factor  # on a border it belongs to the pixels of both sides
        for grad in grads:
            if grad is not None:
                touched = grad.abs().amax(dim=(0, 1, 2)).nonzero().flatten()
                left, right = math.ceil(centre) - 1 - int(touched[0]), int(touched[-1]) - math.floor(centre)
                reach = max(reach, left, right)
    assert reach == module.context


def test_context_of_several_scales_is_the_largest() -> None:
    upsampler = UPSAMPLERS.make("nearest+conv", in_channels=8, scales=[3, 2, 4])
    assert [upsampler.at(scale).context for scale in (3, 2, 4)] == [2, 3, 3]
    assert upsampler.context == 3


def test_stages_have_a_width_of_their_own() -> None:
    module = head("spconv+", 4, stage_channels=5)
    widths = [tuple(conv.weight.shape[:2]) for conv in module.modules() if isinstance(conv, nn.Conv2d)]
    assert widths == [(20, 4), (20, 5), (3, 5)]


@pytest.mark.parametrize("name", ["nearest+conv", "spconv+"])
@pytest.mark.parametrize("scale", [2.5, (2, 3)])
def test_staged_heads_refuse_what_no_stages_make(name: str, scale: object) -> None:
    with pytest.raises(ConfigError, match="whole-number scales"):
        UPSAMPLERS.make(name, in_channels=8, scales=[scale])


def test_a_scale_without_weights_is_refused() -> None:
    upsampler = UPSAMPLERS.make("dysample", in_channels=8, scales=[2, "5/2"])
    with pytest.raises(ScaleError, match=r"weights for x2, x2\.5, not for x3"):
        upsampler(torch.rand(1, 8, 4, 4), torch.rand(1, 3, 4, 4), 3)


@pytest.mark.parametrize(("channels", "groups"), [(8, 4), (210, 2), (9, 1)])
def test_dysample_forms_groups_of_any_width(channels: int, groups: int) -> None:
    upsampler = UPSAMPLERS.make("dysample", in_channels=channels, scales=[2])
    assert upsampler.at(2).offset.weight.shape[0] == 2 * groups * 4
    assert upsampler(torch.rand(1, channels, 3, 4), torch.rand(1, 3, 3, 4), 2).shape == (1, 3, 6, 8)


@pytest.mark.parametrize("scale", [2, 3, "5/2", (2, "3/2")])
@pytest.mark.parametrize("dynamic_scope", [True, False])
def test_dysample_starts_as_bilinear(scale: object, dynamic_scope: bool) -> None:
    exact = Scale.of(scale)
    module = SamplingHead(4, 4, exact, 2, dynamic_scope, 3, "none")
    nn.init.zeros_(module.offset.weight)  # nearly nothing at first
    delta(module.last)
    features = torch.rand(2, 4, 5, 6)
    with torch.no_grad():
        output = module(features, features)
    torch.testing.assert_close(output, bilinear(features, exact))


def sampled(plane: Tensor, y: float, x: float) -> float:
    """``plane`` (H, W) at the centre-based position (y, x), edges continued."""
    rows, columns = plane.shape
    y, x = min(max(y, 0.0), rows - 1), min(max(x, 0.0), columns - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    fy, fx = y - top, x - left
    upper = plane[top, left] * (1 - fx) + plane[top, right] * fx
    lower = plane[bottom, left] * (1 - fx) + plane[bottom, right] * fx
    return float(upper * (1 - fy) + lower * fy)


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("dynamic_scope", [True, False])
def test_dysample_equals_the_published_sampling(scale: int, dynamic_scope: bool) -> None:
    groups = 2
    module = head("dysample", scale, groups=groups, dynamic_scope=dynamic_scope, kernel_size=1)
    delta(module.last)
    features = torch.rand(1, 4, 3, 4, dtype=torch.float64)
    with torch.no_grad():
        output = module(features, features[:, :3])
        raw = F.conv2d(features, module.offset.weight, module.offset.bias)
        gate = 0.25
        if dynamic_scope:
            gate = torch.sigmoid(F.conv2d(features, module.scope.weight, module.scope.bias)) * 0.5
        offset = F.pixel_shuffle(raw * gate, scale)
    for row in range(3 * scale):
        for column in range(4 * scale):
            for channel in range(3):
                group = channel * groups // 4
                x = (column + 0.5) / scale - 0.5 + float(offset[0, group, row, column])
                y = (row + 0.5) / scale - 0.5 + float(offset[0, groups + group, row, column])
                expected = sampled(features[0, channel], y, x)
                assert float(output[0, channel, row, column]) == pytest.approx(expected, abs=1e-9)


def test_channels_of_a_group_are_sampled_alike() -> None:
    image = torch.rand(2, 6, 5, 4)
    offset = torch.randn(2, 4, 10, 8)
    together = sample_at(image, offset, Scale.of(2))
    for channel in range(6):
        own = offset[:, [channel // 3, 2 + channel // 3]]
        torch.testing.assert_close(
            together[:, channel : channel + 1], sample_at(image[:, channel : channel + 1], own, Scale.of(2))
        )
