"""Muon: balanced steps for matrices, Adam's for the rest."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from polyres.errors import ConfigError
from polyres.layers.equivariance import Symmetry, symmetric
from polyres.layers.representations import Representations
from polyres.training import muon
from polyres.training.config import OptimiserConfig
from polyres.training.muon import Muon, matrix_shape, orthogonalised
from polyres.training.optimiser import make_optimiser, optimiser_class


@pytest.mark.parametrize("shape", [(16, 16), (64, 576), (576, 64), (32, 40)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    balanced = orthogonalised(matrix)
    values = torch.linalg.svdvals(balanced)
    # The published quintic trades exactness for speed: 0.7 to 1.2, less for the very smallest of square ones.
    assert values.max() < 1.3
    assert values.median() > 0.6
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inner = left.mT @ balanced @ right.mT
    assert (inner - inner.diag().diag()).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((64, 32, 3, 3), (64, 288)),
        ((64, 3, 3, 3), (64, 27)),
        ((1, 128, 64), (128, 64)),
        ((64, 1, 3, 3), None),
        ((3, 64, 3, 3), None),
        ((64,), None),
        ((), None),
        ((0, 5), None),
    ],
)
def test_what_counts_as_a_matrix(shape: tuple[int, ...], expected: tuple[int, int] | None) -> None:
    assert matrix_shape(torch.empty(shape)) == expected


def test_vectors_take_adams_steps_exactly() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.nn.Parameter(torch.ones(7)), torch.nn.Parameter(torch.ones(7))
    optimisers = [Muon([ours], lr=0.1, betas=(0.9, 0.99)), torch.optim.Adam([theirs], 0.1, (0.9, 0.99))]
    for _ in range(5):
        gradient = torch.randn(7)
        for parameter, optimiser in zip((ours, theirs), optimisers, strict=True):
            parameter.grad = gradient.clone()
            optimiser.step()
    torch.testing.assert_close(ours, theirs)


def test_steps_of_matrices_have_adams_size_whatever_the_gradients() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(64, 32, 3, 3))
    weight.grad = 1e-4 * torch.randn_like(weight)
    Muon([weight], lr=1e-2).step()
    size = float(weight.detach().square().mean().sqrt())
    assert size == pytest.approx(0.2 * 1e-2, rel=0.2)


def test_memory_format_changes_nothing() -> None:
    torch.manual_seed(0)
    start, gradient = torch.randn(32, 16, 3, 3), torch.randn(32, 16, 3, 3)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = torch.nn.Parameter(start.clone(memory_format=layout))
        weight.grad = gradient.clone(memory_format=layout)
        Muon([weight], lr=1e-2).step()
        results.append(weight.detach().contiguous())
    assert torch.equal(*results)


def test_matrices_of_one_shape_move_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    shapes = [(32, 16, 3, 3), (32, 16, 3, 3), (64, 20), (32, 16, 3, 3), (5,), (1, 64, 20)]
    start, gradients = (
        [torch.randn(s) for s in shapes],
        [torch.randn(s) * 10**i for i, s in enumerate(shapes)],
    )

    def moved(groups: list[list[int]]) -> list[torch.Tensor]:
        weights = [torch.nn.Parameter(value.clone()) for value in start]
        optimisers = [Muon([weights[i] for i in group], lr=1e-2) for group in groups]
        for _ in range(3):
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient.clone()
            for optimiser in optimisers:
                optimiser.step()
        return [weight.detach() for weight in weights]

    alone = moved([[i] for i in range(len(shapes))])
    for together in (muon._TOGETHER, 32 * 16 * 9 * 2, 1):
        monkeypatch.setattr(muon, "_TOGETHER", together)
        for ours, theirs in zip(moved([list(range(len(shapes)))]), alone, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


SYMMETRIES: list[Symmetry] = ["flips", "flips-and-negatives", "turns", "turns-and-negatives"]


def kept(tensor: Tensor, symmetry: Symmetry) -> Tensor:
    """The mean of kernels (..., K, C, h, h) over a symmetry."""
    last = tensor.dim() - 4
    return symmetric(tensor, symmetry, (last, last + 1), [(last + 2, last + 3)])


def moved(start: Tensor, gradients: Tensor, symmetry: Symmetry, tied: list[bool]) -> list[Tensor]:
    """Kernels after steps of Muon on ``gradients``, tied in some of them; the state goes through a file's form."""
    weights, state = [torch.nn.Parameter(value.clone()) for value in start], None
    for step, tie in enumerate(tied):
        optimiser = Muon(weights, lr=1e-2)
        if tie:
            optimiser.tie(weights, symmetry)
        if state is not None:
            optimiser.load_state_dict(state)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = kept(gradient + step * gradient.roll(1, 0), symmetry)
        optimiser.step()
        state = copy.deepcopy(optimiser.state_dict())
    return [weight.detach() for weight in weights]


@pytest.mark.parametrize(
    "shape", [(32, 48, 3, 3), (48, 32, 3, 3), (16, 16, 3, 3), (32, 96, 1, 1), (16, 32, 5, 5)]
)
@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_kernels_that_keep_a_symmetry_move_as_any_other(symmetry: Symmetry, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    start, gradients = kept(torch.randn(2, *shape), symmetry), torch.randn(2, *shape)
    plain = moved(start, gradients, symmetry, [False] * 4)
    for ours, theirs, before in zip(moved(start, gradients, symmetry, [True] * 4), plain, start, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        assert (ours - before).abs().max() > 1e-3


@pytest.mark.parametrize("tied", [[True, True, False, False], [False, False, True, True]])
@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_momentum_goes_on_where_other_kernels_are_tied(symmetry: Symmetry, tied: list[bool]) -> None:
    torch.manual_seed(0)
    start, gradients = kept(torch.randn(2, 32, 16, 3, 3), symmetry), torch.randn(2, 32, 16, 3, 3)
    plain = moved(start, gradients, symmetry, [False] * 4)
    for ours, theirs in zip(moved(start, gradients, symmetry, tied), plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_kernels_consist_of_their_blocks(symmetry: Symmetry) -> None:
    torch.manual_seed(0)
    shape = (48, 32, 3, 3)
    one, other = kept(torch.randn(2, *shape), symmetry)
    form = Representations(shape, symmetry)
    torch.testing.assert_close(form.whole(form.free(one)), one)
    blocks = [form.split(form.free(kernel)[None]) for kernel in (one, other)]
    torch.testing.assert_close(form.join([matrices for matrices, _ in blocks[0]])[0], form.free(one))
    values = [torch.linalg.svdvals(matrices).flatten().repeat(times) for matrices, times in blocks[0]]
    together = torch.cat(values).sort(descending=True).values
    torch.testing.assert_close(together, torch.linalg.svdvals(one.flatten(1)), rtol=1e-4, atol=1e-4)
    product = (one.flatten(1) @ other.flatten(1).mT @ one.flatten(1)).reshape(shape)
    parts = [a.matrices @ b.matrices.mT @ a.matrices for a, b in zip(*blocks, strict=True)]
    torch.testing.assert_close(form.whole(form.join(parts)[0]), product, rtol=1e-4, atol=1e-4)


def test_a_rare_direction_learns_as_fast_as_a_common_one() -> None:
    scales = torch.logspace(0, -1, 32)

    def loss_after(kind: type[torch.optim.Optimizer]) -> float:
        weight = torch.nn.Parameter(torch.zeros(32, 32))
        optimiser = kind([weight], lr=3e-2)  # type: ignore[call-arg]
        for _ in range(60):
            optimiser.zero_grad()
            (((weight - torch.eye(32)) * scales) ** 2).sum().backward()
            optimiser.step()
        return float((weight.detach() - torch.eye(32)).abs().max())

    assert loss_after(Muon) < 0.5 < loss_after(torch.optim.SGD)


def test_optimisers_by_name() -> None:
    model = torch.nn.Linear(4, 4)
    assert isinstance(make_optimiser(model, OptimiserConfig(name="muon")), Muon)
    assert isinstance(make_optimiser(model, OptimiserConfig()), torch.optim.Adam)
    rms = make_optimiser(model, OptimiserConfig(name="RMSprop", options={"momentum": 0.5}))
    assert rms.param_groups[0]["momentum"] == 0.5
    decayed = make_optimiser(model, OptimiserConfig(name="adamw", weight_decay=0.1))
    assert decayed.param_groups[0]["weight_decay"] == 0.1


def test_bad_optimisers_are_named() -> None:
    with pytest.raises(ConfigError, match=r"'mun'.*muon"):
        optimiser_class("mun")
    with pytest.raises(ConfigError, match="Optimizer"):
        optimiser_class("Optimizer")
    with pytest.raises(ConfigError, match="do not suit muon"):
        make_optimiser(torch.nn.Linear(2, 2), OptimiserConfig(name="muon", options={"speed": 3}))
