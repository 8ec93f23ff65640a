"""Losses: the contract of the table, and each by its definition."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from polyres.errors import CheckpointError, ConfigError
from polyres.losses import LOSSES, BaseLoss, Loss, ms_ssim
from polyres.losses.adversarial import discriminator_loss, generator_loss
from polyres.losses.perceptual import _vgg19

SHALLOW = ["conv1_1", "conv1_2", "conv2_1"]


@pytest.fixture(scope="session")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Options of a perceptual loss of two layers, with a file of random weights named as torchvision names them."""
    torch.manual_seed(0)
    places = {"conv1_1": 0, "conv1_2": 2, "conv2_1": 5}
    tensors = {}
    for key, tensor in _vgg19(SHALLOW).state_dict().items():
        name, kind = key.split(".")
        tensors[f"features.{places[name]}.{kind}"] = tensor
    tensors["classifier.0.weight"] = torch.zeros(1)
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(tensors, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"weights": str(path), "sha256": digest, "layers": {"conv1_2": 1.0, "conv2_1": 0.5}}


def made(name: str, vgg: dict[str, object]) -> Loss:
    loss = LOSSES.make(name, **(vgg if name == "perceptual" else LOSSES[name].tiny))
    if isinstance(loss, BaseLoss):  # one that learns nothing here: only the output is moved
        return lambda output, target: loss(output, target, output)
    return loss


def pictures(side: int = 24) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    target = torch.rand(2, 3, side, side)
    return (target + 0.3 * torch.randn_like(target)).requires_grad_(), target


@pytest.mark.parametrize("name", list(LOSSES))
def test_losses_vanish_for_equal_pictures_only(name: str, vgg: dict[str, object]) -> None:
    loss, (output, target) = made(name, vgg), pictures()
    assert loss(target, target) < 2e-3
    assert loss(output, target) > 0.01


@pytest.mark.parametrize("name", list(LOSSES))
def test_losses_are_scalars_whose_slope_leads_to_the_target(name: str, vgg: dict[str, object]) -> None:
    loss, (output, target) = made(name, vgg), pictures()
    value = loss(output, target)
    value.backward()
    assert value.shape == ()
    assert output.grad is not None
    assert bool(output.grad.isfinite().all())
    closer = output.detach() - 0.05 * output.grad / output.grad.abs().mean()
    assert loss(closer, target) < value


def test_luma_is_that_of_bt601() -> None:
    zero = torch.zeros(1, 3, 4, 4)
    colours = torch.eye(3)[:, :, None, None].expand(3, 3, 4, 4)
    loss = LOSSES.make("luma")
    assert [float(loss(colour[None], zero)) for colour in colours] == pytest.approx([0.299, 0.587, 0.114])
    assert loss(colours[:1] * 0.587 - colours[1:2] * 0.299, zero) == pytest.approx(0, abs=1e-7)
    for channels in (1, 4):
        output, target = torch.rand(2, channels, 4, 4), torch.rand(2, channels, 4, 4)
        assert loss(output, target) == LOSSES.make("l1")(output, target)


def test_fft_loss_of_white_noise_has_the_published_size() -> None:
    torch.manual_seed(0)
    noise, zero = torch.randn(4, 3, 128, 128), torch.zeros(4, 3, 128, 128)
    l1 = LOSSES.make("l1")(noise, zero)
    assert LOSSES.make("fft")(noise, zero) / l1 == pytest.approx(0.707, abs=0.01)
    assert LOSSES.make("fft", norm="backward")(noise, zero) / l1 == pytest.approx(90.5, rel=0.01)


def test_fft_loss_of_luma_sees_no_colour_without_it() -> None:
    torch.manual_seed(0)
    output, target = torch.rand(2, 3, 12, 9), torch.rand(2, 3, 12, 9)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    grey = [(picture * weights).sum(1, keepdim=True) for picture in (output, target)]
    loss = LOSSES.make("fft", luma=True)
    torch.testing.assert_close(loss(output, target), LOSSES.make("fft")(*grey))
    tint = torch.tensor([0.587, -0.299, 0])[:, None, None] * torch.rand(1, 12, 9)
    torch.testing.assert_close(loss(output + tint, target), loss(output, target))
    assert loss(output + 0.1 * torch.rand(1, 12, 9), target) != loss(output, target)


def test_the_gradient_of_a_ramp_is_its_slope() -> None:
    ramp = torch.arange(16.0).repeat(1, 1, 16, 1) / 16  # 1/16 a pixel along x, 0 along y
    inner = LOSSES.make("gradient")(ramp, torch.zeros_like(ramp)) * 2 * 16
    assert inner == pytest.approx(15 / 16, abs=1e-5)  # half the slope in the two replicated columns


def test_the_edge_loss_ignores_what_is_flat() -> None:
    flat = torch.full((1, 3, 16, 16), 0.2)
    assert LOSSES.make("edge")(flat, flat + 0.5) < 2e-3 < LOSSES.make("edge")(flat, torch.rand(1, 3, 16, 16))


def test_ms_ssim_takes_as_many_levels_as_fit() -> None:
    output, target = pictures(24)
    with torch.no_grad():
        assert ms_ssim(output, target, levels=5) == ms_ssim(output, target, levels=2)
        assert ms_ssim(output, target, levels=2) != ms_ssim(output, target, levels=1)
    with pytest.raises(ConfigError, match="11 pixels"):
        ms_ssim(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))


def test_perceptual_weights_are_checked(vgg: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="SHA-256"):
        LOSSES.make("perceptual", **{**vgg, "sha256": "0" * 64})
    with pytest.raises(ConfigError, match="first 8 digits"):
        LOSSES.make("perceptual", **{**vgg, "sha256": vgg["sha256"][:7]})
    LOSSES.make("perceptual", **{**vgg, "sha256": vgg["sha256"][:8].upper()})
    with pytest.raises(CheckpointError, match="cannot be read"):
        LOSSES.make("perceptual", **{**vgg, "weights": str(tmp_path / "missing.pth")})
    with pytest.raises(CheckpointError, match="does not hold VGG-19"):
        LOSSES.make("perceptual", **{**vgg, "layers": {"conv2_2": 1}})
    with pytest.raises(ConfigError, match="conv9_9"):
        LOSSES.make("perceptual", **{**vgg, "layers": {"conv9_9": 1}})


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="ortho"):
        LOSSES.make("fft", norm="none")
    with pytest.raises(ConfigError, match="levels"):
        LOSSES.make("ms-ssim", levels=9)


def test_dual_stream_by_hand() -> None:
    output, target, base = (torch.full((1, 3, 2, 2), value) for value in (0.5, 0.75, 0.125))
    loss = LOSSES.make("dual-stream", alpha=0.4)
    assert loss(output, target, base) == pytest.approx(0.25 + 0.4 * 0.625)
    with pytest.raises(ConfigError, match="alpha is above 0"):
        LOSSES.make("dual-stream", alpha=0)
    with pytest.raises(ConfigError, match="alpha"):
        LOSSES.make("dual-stream")


@pytest.mark.parametrize(
    ("kind", "generator", "discriminator"),
    [
        # made: 0 and 2; taken: 1 and -3
        ("vanilla", (0.693147 + 0.126928) / 2, (0.313262 + 3.048587) / 2 + (0.693147 + 2.126928) / 2),
        ("lsgan", (1 + 1) / 2, (0 + 16) / 2 + (0 + 4) / 2),
        ("hinge", -1, (0 + 4) / 2 + (1 + 3) / 2),
    ],
)
def test_adversarial_losses_by_hand(kind: str, generator: float, discriminator: float) -> None:
    made, taken = torch.tensor([0.0, 2.0]), torch.tensor([1.0, -3.0])
    assert generator_loss(made, kind) == pytest.approx(generator, abs=1e-6)
    assert discriminator_loss(made, taken, kind) == pytest.approx(discriminator, abs=1e-6)


@pytest.mark.parametrize("kind", ["vanilla", "lsgan", "hinge"])
def test_adversarial_slopes_pull_against_each_other(kind: str) -> None:
    made, taken = torch.tensor([0.1], requires_grad=True), torch.tensor([-0.1], requires_grad=True)
    (wanted,) = torch.autograd.grad(generator_loss(made, kind), made)
    feared, held = torch.autograd.grad(discriminator_loss(made, taken, kind), (made, taken))
    assert wanted < 0 < feared  # the network wants its scores higher, the discriminator wants them lower
    assert held < 0
