"""The chunked selective scan equals the recurrence, the recorded original, and itself at every chunk length."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from polyres.layers import selective_scan as module
from polyres.layers.selective_scan import selective_scan
from polyres.layers.state_space import SelectiveScan2d, _merge, _paths


def arguments(length: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Inputs, steps, decay, write, read, skip: 2 groups, batch 3, 5 channels, 4 states."""
    g = torch.Generator().manual_seed(seed)
    groups, count, channels, states = 2, 3, 5, 4
    sizes = (
        [(length, count, channels)] * 2 + [(states, channels)] + [(length, count, states)] * 2 + [(channels,)]
    )
    x, steps, decay, write, read, skip = (
        torch.randn(groups, *size, generator=g, dtype=dtype) for size in sizes
    )
    return [x, steps.exp(), -decay.exp(), write, read, skip]


def loop(x: Tensor, steps: Tensor, decay: Tensor, write: Tensor, read: Tensor, skip: Tensor) -> Tensor:
    """The definition, step by step."""
    state, outputs = torch.zeros_like(write[:, 0]).unsqueeze(-1) * x[:, 0].unsqueeze(-2), []
    for t in range(x.shape[1]):
        step = steps[:, t].unsqueeze(-2)
        state = torch.exp(step * decay[:, None]) * state + step * x[:, t].unsqueeze(-2) * write[
            :, t
        ].unsqueeze(-1)
        outputs.append((read[:, t].unsqueeze(-1) * state).sum(-2) + skip[:, None] * x[:, t])
    return torch.stack(outputs, 1)


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 40), chunk=st.integers(1, 45), seed=st.integers(0, 99))
def test_every_chunk_length_gives_the_recurrence(length: int, chunk: int, seed: int) -> None:
    args = arguments(length, seed)
    torch.testing.assert_close(selective_scan(*args, chunk=chunk), loop(*args), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 3, 6, 7, 9])
def test_gradients_are_those_of_the_recurrence(chunk: int) -> None:
    ours, theirs = ([t.requires_grad_() for t in arguments(7)] for _ in range(2))
    weights = torch.randn(2, 7, 3, 5, dtype=torch.float64)
    (selective_scan(*ours, chunk=chunk) * weights).sum().backward()
    (loop(*theirs) * weights).sum().backward()
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, expected.grad, rtol=1e-10, atol=1e-10)


def test_gradients_do_not_need_float64_only() -> None:
    args = [t.requires_grad_() for t in arguments(33, dtype=torch.float32)]
    selective_scan(*args, chunk=8).square().mean().backward()
    assert all(t.grad is not None and t.grad.isfinite().all() for t in args)


def test_steep_decays_over_a_long_sequence_stay_exact_in_single_precision() -> None:
    args = arguments(5000, dtype=torch.float32)
    args[1], args[2] = args[1] * 3, args[2] * 50  # the decay of one step alone is below the smallest number
    outputs = selective_scan(*args)
    expected = selective_scan(*(t.double() for t in args), chunk=1)
    assert outputs.isfinite().all()
    torch.testing.assert_close(outputs.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


def test_half_precision_inputs_are_summed_in_single() -> None:
    halves = [t.bfloat16() for t in arguments(50)]
    with torch.autocast("cpu", torch.bfloat16):
        outputs = selective_scan(*halves)
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs, loop(*(t.float() for t in halves)), rtol=1e-5, atol=1e-4)


def test_backward_inside_autocast_is_single_precision_too() -> None:
    outside, inside = ([t.requires_grad_() for t in arguments(20, dtype=torch.float32)] for _ in range(2))
    selective_scan(*outside).square().sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        selective_scan(*inside).square().sum().backward()
    for mine, expected in zip(inside, outside, strict=True):
        assert torch.equal(mine.grad, expected.grad)


@pytest.fixture
def recorded(shared: Path) -> SimpleNamespace:
    tensors = load_file(shared / "parity" / "open" / "unit_selective_scan.safetensors")
    return SimpleNamespace(**{key.removeprefix("io/"): tensor for key, tensor in tensors.items()})


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_outputs_equal_the_recorded_ones(
    recorded: SimpleNamespace, dtype: torch.dtype, tolerance: float
) -> None:
    io = SimpleNamespace(**{key: tensor.to(dtype) for key, tensor in vars(recorded).items()})
    groups = io.B.shape[1]

    def channels(t: Tensor) -> Tensor:
        return t.unflatten(1, (groups, -1)).permute(1, 3, 0, 2)

    steps = F.softplus(channels(io.delta + io.delta_bias[:, None]))
    decay, skip = io.A.unflatten(0, (groups, -1)).mT, io.D.unflatten(0, (groups, -1))
    args = (channels(io.u), steps, decay, io.B.permute(1, 3, 0, 2), io.C.permute(1, 3, 0, 2))
    outputs = selective_scan(*args, skip, chunk=8).permute(2, 0, 3, 1).flatten(1, 2)
    unskipped = selective_scan(*args).permute(2, 0, 3, 1).flatten(1, 2)
    scale = max(1.0, float(recorded.out.std()))
    expected = recorded.out64 if dtype == torch.float64 else recorded.out
    torch.testing.assert_close(outputs, expected, rtol=0, atol=tolerance * scale)
    torch.testing.assert_close(unskipped.float(), recorded.out_noD, rtol=0, atol=2e-5 * scale)
    torch.testing.assert_close((outputs * F.silu(io.z)).float(), recorded.out_z, rtol=0, atol=2e-5 * scale)


def test_the_kernel_gets_its_own_layout_and_gives_the_same_numbers() -> None:
    args = arguments(9, dtype=torch.float32)

    def kernel(u: Tensor, delta: Tensor, rates: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """What mamba_ssm computes: (N, G * D, L), rates (G * D, S), b and c (N, G, S, L)."""
        per = u.shape[1] // b.shape[1]
        state, outputs = u.new_zeros(*u.shape[:2], rates.shape[1]), []
        for t in range(u.shape[2]):
            write, read = (v[..., t].repeat_interleave(per, 1) for v in (b, c))
            state = torch.exp(delta[..., t, None] * rates) * state + (delta * u)[..., t, None] * write
            outputs.append((state * read).sum(-1))
        return torch.stack(outputs, -1)

    expected = selective_scan(*args[:-1])
    torch.testing.assert_close(module._run_kernel(kernel, *args[:-1]), expected, rtol=1e-5, atol=1e-5)


def test_paths_visit_every_pixel_and_merge_back() -> None:
    features = torch.arange(2 * 3 * 4.0).reshape(2, 3, 4, 1)
    paths = _paths(features)
    assert paths[1, :, 0, 0].tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert torch.equal(paths[2:], paths[:2].flip(1))
    assert torch.equal(_merge(paths, features.shape[1:3]), 4 * features)


def test_fresh_steps_and_rates_are_mambas() -> None:
    torch.manual_seed(0)
    scan = SelectiveScan2d(32, states=5)
    steps = F.softplus(scan.step_bias)
    assert 0.001 <= steps.min() < 0.002 < 0.05 < steps.max() <= 0.1001
    assert torch.allclose(scan.decay_log.exp()[0, :, 0], torch.arange(1.0, 6.0))
