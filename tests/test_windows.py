"""Windows, relative positions, attention and stochastic depth do what their names say."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polyres.layers.attention import RelativeBias, WindowAttention, attend
from polyres.layers.drop_path import DropPath, rising_rates
from polyres.layers.mlp import ConvMlp, Mlp
from polyres.layers.windows import BLOCKED, Reach, merge, partition, shift_mask

SIDES = st.integers(1, 4)


@given(size=st.tuples(SIDES, SIDES), grid=st.tuples(SIDES, SIDES), count=st.integers(1, 2))
def test_merging_undoes_partitioning(size: tuple[int, int], grid: tuple[int, int], count: int) -> None:
    height, width = size[0] * grid[0], size[1] * grid[1]
    features = torch.rand(count, height, width, 3)
    windows = partition(features, size)
    assert windows.shape == (count * grid[0] * grid[1], size[0] * size[1], 3)
    assert torch.equal(windows[0], features[0, : size[0], : size[1]].reshape(-1, 3))
    assert torch.equal(merge(windows, size, height, width), features)


@given(query_size=SIDES, margin=st.integers(0, 2))
def test_each_offset_has_its_row_of_the_table(query_size: int, margin: int) -> None:
    key_size = query_size + 2 * margin
    position = RelativeBias(1, query_size, key_size)
    span = query_size + key_size - 1
    with torch.no_grad():
        position.table.copy_(torch.arange(span**2.0)[:, None])
        bias = position().reshape(query_size, query_size, key_size, key_size)
    for qy in range(query_size):
        for qx in range(query_size):
            for ky in range(key_size):
                for kx in range(key_size):
                    row = (qy - ky + key_size - 1) * span + qx - kx + key_size - 1
                    assert bias[qy, qx, ky, kx] == row


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3)])
def test_only_neighbours_in_the_picture_see_each_other_after_a_shift(rows: int, columns: int) -> None:
    size, shift = 4, 1
    height, width = rows * size, columns * size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    where = torch.stack((y, x), dim=-1)[None].roll((-shift, -shift), (1, 2))
    positions = partition(where, (size, size))
    # In the picture, pixels of one window are less than a window apart; pixels that came round are not.
    apart = (positions[:, :, None] - positions[:, None]).abs().amax(dim=-1) >= size
    mask = shift_mask((rows, columns), (size, shift), (size, shift), torch.zeros(1))
    if rows > 1:
        assert torch.equal(mask != 0, apart)
    else:  # one window: the parts are as near as pixels of one window, so only their sides tell
        came_round = (positions < shift)[:, :, None] != (positions < shift)[:, None]
        assert torch.equal(mask != 0, came_round.any(dim=-1))
    assert set(mask.unique().tolist()) == {BLOCKED, 0.0}


def test_attention_is_the_softmax_of_products_bias_and_mask() -> None:
    query, key, value = (torch.randn(4, 2, tokens, 5, dtype=torch.float64) for tokens in (3, 6, 6))
    bias, mask = torch.randn(2, 3, 6).double(), torch.randn(2, 3, 6).double()
    logits = query @ key.mT * 5**-0.5 + bias + torch.cat((mask, mask))[:, None]
    expected = torch.softmax(logits, dim=-1) @ value
    torch.testing.assert_close(attend(query, key, value, bias, mask), expected)
    unmasked = torch.softmax(query @ key.mT * 0.5 + bias, dim=-1) @ value
    torch.testing.assert_close(attend(query, key, value, bias, scale=0.5), unmasked)


@pytest.mark.parametrize("shift", [0, 2])
def test_window_attention_stays_in_its_windows(shift: int) -> None:
    attention = WindowAttention(4, heads=2, window=4, shift=shift).double()
    features = torch.rand(1, 8, 12, 4, dtype=torch.float64, requires_grad=True)
    attention(features)[0, 5, 6].sum().backward()
    assert features.grad is not None
    touched = features.grad.abs().sum(dim=(0, 3)).nonzero()
    first = (torch.tensor([5, 6]) - shift) // 4 * 4 + shift
    assert torch.equal(touched.amin(0), first)
    assert torch.equal(touched.amax(0), torch.minimum(first + 3, torch.tensor([7, 11])))


def test_reach_follows_windows_and_convolutions() -> None:
    reach = Reach(4)
    reach.windows(shift=0)
    assert reach.radius == 3
    reach.convolution(1)
    assert reach.radius == 4
    reach.windows(shift=2)  # 0..3, then -1..4, then windows of 4 from 2: -2..5
    assert reach.radius == 5
    reach.windows(shift=0, margin=2)  # -4..7, and two more on each side
    assert reach.radius == 9


def test_pointwise_networks_keep_the_shape_and_only_one_looks_sideways() -> None:
    features = torch.rand(1, 9, 9, 4, requires_grad=True)
    for network, radius in ((Mlp(4, 8), 0), (ConvMlp(4, 8, kernel_size=5), 2)):
        output = network(features)
        assert output.shape == features.shape
        (gradient,) = torch.autograd.grad(output[0, 4, 4].sum(), features)
        assert int((gradient.abs().sum(dim=(0, 3)).nonzero() - 4).abs().max()) == radius


def test_dropped_paths_are_whole_pictures_and_keep_the_mean() -> None:
    torch.manual_seed(0)
    branch = torch.ones(4000, 2, 3)
    dropped = DropPath(0.25).train()(branch)
    assert torch.equal(dropped.amin(dim=(1, 2)), dropped.amax(dim=(1, 2)))
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(dropped.mean()) == pytest.approx(1, abs=0.05)
    assert DropPath(0.25).eval()(branch) is branch


def test_drop_rates_rise_to_the_highest() -> None:
    rates = rising_rates(0.3, (2, 2))
    assert [rate for group in rates for rate in group] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert rising_rates(0.3, (1,)) == [[0.0]]
