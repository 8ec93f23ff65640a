"""Correlation, n-gram context and dictionary attention compute what their definitions say."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from polyres.encoders import ENCODERS
from polyres.encoders.hit import HiTBlock
from polyres.errors import ConfigError
from polyres.layers.correlation import Correlation, DynamicBias
from polyres.layers.ngram import NeighbourContext
from polyres.layers.token_dictionary import CategoryAttention, DictionaryAttention, Refinement


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def excited(module: torch.nn.Module) -> torch.nn.Module:
    """``module`` in double precision with parameters that all matter."""
    torch.manual_seed(0)
    for parameter in module.double().parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.eval()


@pytest.mark.parametrize(
    ("window", "cells"), [((4, 4), (4, 4)), ((4, 4), (2, 2)), ((6, 4), (2, 4)), ((2, 8), (2, 2))]
)
def test_the_bias_of_a_cell_is_the_mean_over_its_pixels(
    window: tuple[int, int], cells: tuple[int, int]
) -> None:
    bias = excited(DynamicBias(3, 4, window, cells))
    (h, w), (down, across) = window, cells
    with torch.no_grad():
        made = bias()
        for (y, x), row, column in itertools.product(
            itertools.product(range(h), range(w)), range(down), range(across)
        ):
            inside = itertools.product(range(h // down), range(w // across))
            offsets = [[y - row * (h // down) - u, x - column * (w // across) - v] for u, v in inside]
            expected = bias.network(torch.tensor(offsets, dtype=torch.float64)).mean(0)
            torch.testing.assert_close(made[:, y * w + x, row * across + column], expected)


@pytest.mark.parametrize("window", [(2, 2), (4, 4), (2, 6)])
def test_correlation_is_its_definition_in_each_window(window: tuple[int, int]) -> None:
    layer = excited(Correlation(16, 2, window, (2, 2)))
    features = random(1, window[0] * 2, window[1], 16)
    with torch.no_grad():
        result = layer(features)[0, window[0] :]
        area = features[0, window[0] :].reshape(-1, 16)
        query, value = area[:, :8], area[:, 8:]
        pooled = pooled_cells(value, window, layer)
        bias = layer.position()
        in_space = torch.cat(
            [(query[:, s] @ pooled[:, s].T / 4 + bias[i]) @ pooled[:, s] for i, s in enumerate(halves())],
            dim=1,
        )
        across = value @ (query.T @ value / len(area)).T
        expected = layer.project(torch.cat((in_space, across), dim=1))
    torch.testing.assert_close(result.reshape(-1, 16), expected)


def halves() -> tuple[slice, slice]:
    return slice(0, 4), slice(4, 8)


def pooled_cells(value: Tensor, window: tuple[int, int], layer: Correlation) -> Tensor:
    """The values of 2x2 cells, each a weighted sum of its pixels."""
    grid = value.reshape(*window, -1)
    h, w = window[0] // 2, window[1] // 2
    parts = [grid[r * h : r * h + h, c * w : c * w + w].reshape(h * w, -1) for r in (0, 1) for c in (0, 1)]
    return torch.stack([layer.pool.weight[0] @ part + layer.pool.bias for part in parts])


def test_a_window_has_its_neighbours_as_context_and_no_others() -> None:
    layer = excited(NeighbourContext(8, 2, (2, 2)))
    features = random(1, 10, 10, 8).requires_grad_()
    layer(features)[0, 4:6, 4:6].square().sum().backward()
    assert features.grad is not None
    touched = features.grad[0].abs().amax(dim=-1) > 0
    expected = torch.zeros(10, 10, dtype=torch.bool)
    # All but two corners: one square of windows has the window at its top left, the other at its bottom right.
    for row, column in itertools.product((1, 2, 3), repeat=2):
        expected[row * 2 : row * 2 + 2, column * 2 : column * 2 + 2] = (row, column) not in ((1, 3), (3, 1))
    assert torch.equal(touched, expected)


def test_a_block_mirrors_small_pictures_back_and_forth() -> None:
    block = excited(HiTBlock(16, 2, (16, 16), (4, 4), 1.0, 0, False, 0.0))
    small = random(1, 3, 5, 16)
    there_and_back = torch.cat((small, small[:, 1:2]), dim=1).repeat(1, 4, 1, 1)
    mirrored = torch.cat((there_and_back, there_and_back[:, :, 1:4].flip(2)), dim=2).repeat(1, 1, 2, 1)
    assert mirrored.shape == (1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(block(small), block(mirrored)[:, :3, :5])


def test_pixels_of_one_token_attend_to_each_other_wherever_they_are() -> None:
    layer = excited(CategoryAttention(8, 2, category_size=4))
    token = torch.arange(12) % 3
    similarity = torch.nn.functional.one_hot(token, 3).double()[None]
    mixed = random(1, 12, 24)
    with torch.no_grad():
        result = layer(mixed, similarity)[0]
        for index in range(3):
            alone = layer(mixed[:, token == index], similarity[:, token == index])[0]
            torch.testing.assert_close(result[token == index], alone)


def test_the_last_category_is_filled_up_with_the_last_pixels() -> None:
    layer = excited(CategoryAttention(8, 2, category_size=4))
    mixed, similarity = random(2, 6, 24), torch.ones(2, 6, 1, dtype=torch.float64)
    filled = torch.cat((mixed[:, 4:], mixed[:, 4:]), dim=1)
    with torch.no_grad():
        result = layer(mixed, similarity)
        torch.testing.assert_close(result[:, :4], layer(mixed[:, :4], similarity[:, :4]))
        torch.testing.assert_close(result[:, 4:], layer(filled, similarity[:, :4])[:, :2])


def test_pixels_with_equal_similarity_keep_the_order_of_the_picture() -> None:
    layer = excited(CategoryAttention(8, 2, category_size=4))
    mixed, similarity = random(1, 64, 24), torch.ones(1, 64, 5, dtype=torch.float64)
    with torch.no_grad():
        in_pieces = [layer(m, s) for m, s in zip(mixed.split(4, 1), similarity.split(4, 1), strict=True)]
        torch.testing.assert_close(layer(mixed, similarity), torch.cat(in_pieces, dim=1))


def test_similarity_to_a_dictionary_is_a_distribution_sharper_where_it_says_so() -> None:
    layer = excited(DictionaryAttention(8, 5, 3))
    with torch.no_grad():
        layer.sharpness.fill_(-3.0)
        _, dull = layer(random(2, 7, 8), random(2, 5, 8, seed=1))
        layer.sharpness.fill_(9.0)
        attended, sharp = layer(random(2, 7, 8), random(2, 5, 8, seed=1))
        torch.testing.assert_close(sharp.sum(-1), torch.ones(2, 7, dtype=torch.float64))
        torch.testing.assert_close(attended, sharp @ layer.value(random(2, 5, 8, seed=1)))
        # Clamped to 0 and 1: logits are cosines, or 1 + log(5) times these.
        odds = [torch.log(s[..., :1] / s[..., 1:]) for s in (dull, sharp)]
        torch.testing.assert_close(odds[1], odds[0] * (1 + torch.log(torch.tensor(5.0)).double()))


def test_refined_tokens_move_to_the_pixels_by_normalised_attention() -> None:
    layer = excited(Refinement(5))
    similarity = torch.softmax(random(2, 7, 5) * 1e-2, dim=-1)
    dictionary, pixels = random(2, 5, 8), random(2, 7, 8, seed=1)
    norm = torch.nn.InstanceNorm1d(5, affine=True).double()
    with torch.no_grad():
        norm.weight.copy_(layer.weight)
        weights = torch.softmax(norm(similarity.mT), dim=-1)
        kept = layer.keep.sigmoid()
        expected = kept * dictionary + (1 - kept) * (weights @ pixels)
        torch.testing.assert_close(layer(dictionary, similarity, pixels), expected)


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("hit-sir", {"ratios": [1.5]}, "ratios must have one number for each of 6 blocks"),
        ("hit-sir", {"blocks": [1], "heads": [6], "ratios": [1.5]}, "whole cells"),
        ("hit-srf", {"channels": 66, "blocks": [1], "heads": [6, 6]}, "one number for each group"),
        ("hit-sng", {"channels": 66}, "multiple of 2 \\* heads"),
        ("atd", {"heads": [4] * 6}, "must divide channels"),
    ],
)
def test_options_that_cannot_be_built_are_refused(name: str, options: dict, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        ENCODERS.make(name, **options)
