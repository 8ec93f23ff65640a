"""Kernel recalibration: nothing at first, exact when folded, and mixing what it says it mixes."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

import polyres
from polyres.data.crops import Batch
from polyres.errors import ConfigError
from polyres.layers import KernelRecalibration, fold, parameter_groups, recalibrate
from polyres.layers.recalibration import recalibrations
from polyres.scale import Scale
from polyres.training.config import RunConfig
from polyres.training.loop import StepReport, TrainingState, train

CONVOLUTIONS: dict[str, Callable[[], nn.Module]] = {
    "dense": lambda: nn.Conv2d(4, 6, 3, padding=1),
    "grouped": lambda: nn.Conv2d(12, 18, 3, padding=1, groups=3),
    "depthwise": lambda: nn.Conv2d(6, 6, 3, padding=1, groups=6),
    "depthwise, twice as many": lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False),
    "pointwise": lambda: nn.Conv2d(8, 4, 1, groups=2),
    "even kernels": lambda: nn.Conv2d(4, 4, (2, 4), groups=2),
    "large, dilated, strided": lambda: nn.Conv2d(8, 8, 5, stride=2, dilation=2, padding=4, groups=2),
    "reflecting": lambda: nn.Conv2d(6, 6, 3, padding=1, groups=2, padding_mode="reflect"),
    "1-D": lambda: nn.Conv1d(6, 9, 3, groups=3),
    "3-D": lambda: nn.Conv3d(4, 8, (1, 3, 3), groups=4),
    "transposed": lambda: nn.ConvTranspose2d(12, 6, 3, stride=2, groups=3),
}
LAYOUTS = ("contiguous", "strided")


def anything(_: str, module: nn.Module) -> bool:
    return isinstance(module, nn.modules.conv._ConvNd)


def basis_of(conv: nn.Module) -> Tensor:
    return conv.parametrizations.weight.original


def mixing_of(conv: nn.Module) -> nn.Parameter:
    return conv.parametrizations.weight[0].weight


def shaken(module: nn.Module, std: float = 0.05, seed: int = 0) -> nn.Module:
    """``module`` with random recalibrations."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in recalibrations(module):
            part.weight.add_(torch.randn(part.weight.shape, generator=generator).to(part.weight) * std)
    return module


def features_for(conv: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    sizes = (9, 10, 11)[: conv.weight.ndim - 2]
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, conv.in_channels, *sizes, generator=generator).to(dtype)


def small_network(recalibration: str = "contiguous", upsampler: str = "spconv") -> polyres.SRModel:
    torch.manual_seed(0)
    options = {"channels": 8, "blocks": 1, "groups_per_block": 2, "pairs_per_group": 1, "groups": 4}
    head = {"scales": [2]} if upsampler == "spconv" else {"width": 16, "hidden_layers": 1, "sample_width": 8}
    parts = {
        "encoder": {"name": "krgn", "options": {**options, "recalibration": recalibration}},
        "upsampler": {"name": upsampler, "options": head},
        "mean": [0.45, 0.44, 0.4],
        "value_range": 255,
    }
    return polyres.build(polyres.ModelConfig.model_validate(parts)).eval()


# 1. Nothing changes at first.


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_fresh_recalibration_changes_no_bit(name: str, layout: str, dtype: torch.dtype) -> None:
    conv = CONVOLUTIONS[name]().to(dtype)
    features = features_for(conv, dtype)
    before = conv(features)
    recalibrate(conv, anything, layout=layout)
    assert conv.weight.dtype == dtype
    assert torch.equal(conv(features), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_fresh_recalibrated_network_is_the_plain_one(dtype: torch.dtype) -> None:
    plain = small_network("none").to(dtype)
    image = torch.rand(1, 3, 9, 8).to(dtype)
    with torch.no_grad():
        before = plain(image, 2)
        assert torch.equal(recalibrate(plain)(image, 2), before)
    assert sum(1 for _ in recalibrations(plain)) == 4


# 2, 4. Folding is exact and leaves the plain module.


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_folding_is_exact_and_leaves_the_plain_convolution(
    name: str, layout: str, dtype: torch.dtype
) -> None:
    plain = CONVOLUTIONS[name]()
    conv = shaken(recalibrate(copy.deepcopy(plain), anything, layout=layout)).to(dtype)
    features = features_for(conv, dtype)
    folded = fold(conv)
    assert torch.equal(folded(features), conv(features))
    assert not torch.equal(folded.weight, basis_of(conv))
    assert type(folded) is type(plain)
    assert {k: v.shape for k, v in folded.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }
    assert not folded.weight.requires_grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("std", [1e-3, 1e-2])
def test_fusing_a_network_is_exact(std: float, dtype: torch.dtype) -> None:
    model = shaken(small_network(), std).to(dtype)
    image = torch.rand(1, 3, 9, 8).to(dtype)
    with torch.no_grad():
        fused = polyres.fuse(model, 2)
        assert torch.equal(fused(image), model(image, 2))
    plain = polyres.fuse(small_network("none"), 2)
    assert {k: v.shape for k, v in fused.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }
    assert [type(m) for m in fused.modules()] == [type(m) for m in plain.modules()]


# 3. The weight is what the formula says.


def by_loops(basis: Tensor, mixing: Tensor, groups: int, layout: str) -> Tensor:
    """W[a, u, v] = B[a, u, v] + sum over the block's slices b and neighbouring taps of V[a, b] * B[b]."""
    slices = basis.flatten(0, 1)
    blocks = len(slices) // groups
    members = [
        [q * groups + i if layout == "contiguous" else i * blocks + q for i in range(groups)]
        for q in range(blocks)
    ]
    weight, half = slices.clone(), mixing.shape[-1] // 2
    rows, columns = slices.shape[1:]
    taps = itertools.product(range(mixing.shape[2]), range(mixing.shape[3]))
    for (q, block), (dy, dx) in itertools.product(enumerate(members), list(taps)):
        for (i, a), (j, b) in itertools.product(enumerate(block), repeat=2):
            for u, v in itertools.product(range(rows), range(columns)):
                y, x = u + dy - half, v + dx - half
                if 0 <= y < rows and 0 <= x < columns:
                    weight[a, u, v] += mixing[q * groups + i, j, dy, dx] * slices[b, y, x]
    return weight.view_as(basis)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["dense", "grouped", "depthwise", "large, dilated, strided", "transposed"])
def test_the_weight_is_the_formulas(name: str, layout: str) -> None:
    conv = shaken(recalibrate(CONVOLUTIONS[name]().double(), anything, layout=layout))
    expected = by_loops(basis_of(conv).detach(), mixing_of(conv).detach(), conv.groups, layout)
    torch.testing.assert_close(conv.weight.detach(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("recording", ["dense", "dw3", "grouped"])
def test_weights_and_outputs_equal_refconvs(recording: str, shared: Path) -> None:
    path = shared / "parity" / "open" / f"unit_refconv_{recording}.json"
    options, io = json.loads(path.read_text())["kwargs"], load_file(path.with_suffix(".safetensors"))
    conv = nn.Conv2d(**options, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(io["weight"])
        recalibrate(conv, anything, freeze_basis=True)
        mixing_of(conv).copy_(io["convmap.weight"])
        torch.testing.assert_close(conv.weight, io["io/folded_kernel"], rtol=0, atol=1e-6)
        torch.testing.assert_close(conv(io["io/in"]), io["io/out"], rtol=0, atol=2e-5)
        precise = conv.double()(io["io/in"].double())
    torch.testing.assert_close(precise, io["io/out64"], rtol=0, atol=1e-10)
    assert sum(p.numel() for p in conv.parameters() if p.requires_grad) == io["convmap.weight"].numel()


# 5. Who is mixed with whom.


@pytest.mark.parametrize(
    ("layout", "touched"), [("contiguous", list(range(16))), ("strided", list(range(0, 64, 2)))]
)
def test_the_first_kernel_depends_on_its_block_only(layout: str, touched: list[int]) -> None:
    conv = nn.Conv2d(64, 64, 3, groups=32, bias=False).double()
    shaken(recalibrate(conv, layout=layout))
    conv.weight[0].sum().backward()
    grad = basis_of(conv).grad
    assert grad is not None
    assert grad.abs().amax(dim=(1, 2, 3)).nonzero().flatten().tolist() == touched


def test_sizes_are_those_of_a_dense_convolution() -> None:
    for groups in (1, 32, 64):
        recalibration = KernelRecalibration(torch.Size((64, 64 // groups, 3, 3)), groups)
        assert recalibration.weight.numel() == 36_864


# 6. Gradients.


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_are_right(layout: str) -> None:
    recalibration = KernelRecalibration(torch.Size((4, 2, 3, 3)), 2, layout).double()
    basis = torch.randn(4, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    mixing = torch.randn_like(recalibration.weight).requires_grad_()
    features = torch.randn(1, 4, 5, 5, dtype=torch.float64, requires_grad=True)

    def forward(x: Tensor, b: Tensor, v: Tensor) -> Tensor:
        weight = torch.func.functional_call(recalibration, {"weight": v}, b)
        return nn.functional.conv2d(x, weight, groups=2)

    assert torch.autograd.gradcheck(forward, (features, basis, mixing), fast_mode=True)


def test_a_step_on_the_recalibration_preconditions_the_kernels() -> None:
    """A gradient step on V moves every kernel of a block by -lr * M * its gradient, M the basis' covariance."""
    conv = recalibrate(nn.Conv2d(6, 6, 3, groups=6, bias=False).double())
    before, direction = conv.weight.detach().clone(), torch.randn(6, 1, 3, 3, dtype=torch.float64)
    (conv.weight * direction).sum().backward()
    with torch.no_grad():
        mixing_of(conv).sub_(0.1 * mixing_of(conv).grad)
    moved = (conv.weight.detach() - before).flatten(1)
    padded = nn.functional.pad(basis_of(conv).detach()[:, 0], (1, 1, 1, 1))
    places = padded.unfold(1, 3, 1).unfold(2, 3, 1).permute(0, 3, 4, 1, 2).reshape(-1, 9)
    covariance = places.mT @ places
    torch.testing.assert_close(moved, -0.1 * direction.flatten(1) @ covariance, rtol=0, atol=1e-12)


# 7. Frozen bases.


def test_a_frozen_basis_of_zeros_is_refused() -> None:
    conv = nn.Conv2d(4, 4, 3, groups=4)
    nn.init.zeros_(conv.weight)
    with pytest.raises(ConfigError, match="all zero"):
        recalibrate(conv, freeze_basis=True)
    assert not parametrize.is_parametrized(conv)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_basis_stays_and_its_mixing_learns(frozen: bool) -> None:
    torch.manual_seed(0)
    conv = recalibrate(nn.Conv2d(4, 4, 3, groups=4), freeze_basis=frozen)
    basis, mixing = basis_of(conv).detach().clone(), mixing_of(conv).detach().clone()
    optimiser = torch.optim.Adam(parameter_groups(conv, lr=1e-2))
    for _ in range(10):
        optimiser.zero_grad()
        conv(torch.randn(1, 4, 6, 6)).square().mean().backward()
        optimiser.step()
    assert torch.equal(basis_of(conv), basis) is frozen
    assert not torch.equal(mixing_of(conv), mixing)


# 8. Half precision.


class Unguarded(KernelRecalibration):
    """The same with autocast left on: what the guard is there to prevent."""

    def forward(self, basis: Tensor) -> Tensor:
        slices = self._blocks(basis)
        mixing = self.weight.reshape(len(slices), self.groups, -1)
        mixed = torch.bmm(mixing, self._neighbourhoods(slices))
        return basis + self._unblocked(mixed, basis.shape)


def folded_outside_autocast(recalibration: type[nn.Module]) -> tuple[Tensor, Tensor]:
    conv = nn.Conv2d(8, 8, 3, padding=1, groups=4)
    torch.manual_seed(0)
    nn.init.normal_(conv.weight, std=0.2)
    parametrize.register_parametrization(conv, "weight", recalibration(conv.weight.shape, 4))
    folded, features = fold(shaken(conv, 0.3)), features_for(conv)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return conv(features), folded(features)


def test_autocast_computes_the_folded_weight() -> None:
    assert torch.equal(*folded_outside_autocast(KernelRecalibration))
    assert not torch.equal(*folded_outside_autocast(Unguarded))


def test_fusing_a_network_is_exact_under_autocast() -> None:
    model = shaken(small_network(), 0.1)
    image = torch.rand(1, 3, 9, 8)
    with torch.no_grad():
        fused = polyres.fuse(model, 2)
        with torch.autocast("cpu", torch.bfloat16):
            output = model(image, 2)
            assert torch.equal(fused(image), output)
    assert output.isfinite().all()


def test_half_precision_weights_are_mixed_in_single() -> None:
    half = shaken(recalibrate(nn.Conv2d(8, 8, 3, groups=4)), 0.3).bfloat16()
    single = copy.deepcopy(half).float()
    assert torch.equal(half.weight, single.weight.bfloat16())


# 9. Saving, loading, averaging.


def test_saving_and_folding_commute(tmp_path: Path) -> None:
    model = shaken(small_network())
    polyres.save(model, tmp_path / "model.safetensors")
    loaded = polyres.load(tmp_path / "model.safetensors")
    image = torch.rand(1, 3, 7, 9)
    with torch.no_grad():
        expected = polyres.fuse(model, 2)
        assert torch.equal(loaded(image, 2), model(image, 2))
        assert torch.equal(polyres.fuse(loaded, 2)(image), expected(image))
    again = polyres.fuse(small_network("none"), 2)
    again.load_state_dict(expected.state_dict())
    assert torch.equal(again(image), expected(image))


def test_averages_are_of_the_raw_parameters() -> None:
    """Fusing the average is not the average of fused kernels, unless the basis is the same in both."""
    first = recalibrate(nn.Conv2d(6, 6, 3, groups=6).double())
    other = shaken(copy.deepcopy(first), seed=1)
    shaken(first, seed=2)

    def gap() -> float:
        mean = copy.deepcopy(first)
        with torch.no_grad():
            for target, p, q in zip(mean.parameters(), first.parameters(), other.parameters(), strict=True):
                target.copy_((p + q) / 2)
        return float((mean.weight - (first.weight + other.weight) / 2).abs().max().detach())

    assert gap() < 1e-12
    with torch.no_grad():
        basis_of(other).add_(torch.randn_like(basis_of(other)) * 0.1)
    assert gap() > 1e-4


# 12. Dilation.


@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_dilation_changes_neither_sizes(dilation: int) -> None:
    conv = recalibrate(nn.Conv2d(8, 8, 3, padding=dilation, dilation=dilation, groups=4))
    assert mixing_of(conv).shape == (16, 4, 3, 3)
    assert conv(torch.rand(1, 8, 9, 7)).shape == (1, 8, 9, 7)


# 13. Graphs.


def test_a_recalibrated_convolution_compiles_into_one_graph() -> None:
    conv = shaken(recalibrate(nn.Conv2d(4, 4, 3, groups=4)))
    features = features_for(conv)
    compiled = torch.compile(conv, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(features), conv(features))


def test_a_fused_network_exports_to_the_plain_networks_operations() -> None:
    def operations(recalibration: str) -> list[str]:
        fused = polyres.fuse(small_network(recalibration), 2)
        program = torch.export.export(fused, (torch.rand(1, 3, 9, 8),))
        return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]

    assert operations("contiguous") == operations("none")
    assert any("conv" in name for name in operations("none"))


# 14. One network for all scales.


def test_with_igconv_every_scale_fuses() -> None:
    model = shaken(small_network(upsampler="igconv+"), 1e-2)
    image = torch.rand(1, 3, 9, 8)
    for scale in (2, 3, 4, "5/2"):
        with torch.no_grad():
            difference = (polyres.fuse(model, scale)(image) - model(image, scale)).abs().max() * 255
        assert difference <= 1e-3


# Choosing, and what is refused.


def test_only_grouped_convolutions_are_chosen_unless_told() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.ReLU())
    recalibrate(network)
    assert [parametrize.is_parametrized(part) for part in network] == [False, True, False]
    with pytest.raises(ConfigError, match="already"):
        recalibrate(network)
    recalibrate(network, lambda name, _: name == "0")
    assert parametrize.is_parametrized(network[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"select": lambda *_: False}, "nothing to recalibrate"),
        ({"select": lambda _, m: isinstance(m, nn.ReLU)}, "ReLU"),
        ({"layout": "diagonal"}, "contiguous, strided"),
        ({"kernel_size": 2}, "odd"),
    ],
)
def test_refuses_what_it_cannot_do(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recalibrate(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.ReLU()), **options)


def test_groups_for_the_optimiser_part_recalibrations_and_bases_from_the_rest() -> None:
    model = small_network()
    groups = parameter_groups(model, lr=0.5, multiplier=0.1, weight_decay=0.01)
    assert [(g["lr"], g["lr_scale"], g["weight_decay"]) for g in groups] == [
        (0.5, 1.0, 0.01),
        (0.5, 1.0, 0.0),
        (0.05, 0.1, 0.0),
    ]
    assert [len(g["params"]) for g in groups[1:]] == [4, 4]
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    plain = parameter_groups(small_network("none"), lr=1.0)
    assert len(plain) == 1


def test_training_steps_recalibrations_at_their_own_rate(tmp_path: Path) -> None:
    model, rates = small_network(), {}
    description = {
        "model": model.config,
        "data": {"train": [tmp_path]},
        "output": tmp_path,
        "steps": 1,
        "optimiser": {"lr": 1e-3, "warmup": 2, "recalibration_lr": 0.1},
    }

    class Crops:
        def batch(self, step: int, micro: int) -> Batch:
            low, high = (np.full((1, side, side, 3), 99, np.uint8) for side in (8, 16))
            return Batch(low, high, Scale.of(2))

    def on_step(state: TrainingState, _: StepReport) -> None:
        for group in state.optimiser.param_groups:
            rates.update({id(parameter): group["lr"] for parameter in group["params"]})

    train(model, Crops(), RunConfig.model_validate(description), on_step)  # type: ignore[arg-type]
    mixing = {id(part.weight) for part in recalibrations(model)}
    assert len(mixing) == 4
    assert [rates[key] for key in mixing] == pytest.approx([0.5e-4] * 4)
    others = [rate for key, rate in rates.items() if key not in mixing]
    assert others == pytest.approx([0.5e-3] * len(others))
