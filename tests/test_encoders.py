"""Every encoder of the table keeps the contract, at its smallest useful size."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from torch import Tensor

from polyres.deploy import fuse
from polyres.encoders import ENCODERS, Encoder
from polyres.model import ModelConfig, PartConfig, SRModel, build
from polyres.upsamplers import UPSAMPLERS
from polyres.weights import load, save

NAMES = list(ENCODERS)
#: One name for each way of making an encoder: presets of a family differ only in options that tiny overrides.
FAMILIES = list(
    {(e.factory, str(sorted({**e.options, **e.tiny}.items()))): e.name for e in ENCODERS.values()}.values()
)


def tiny(name: str, **options: object) -> Encoder:
    torch.manual_seed(0)
    return ENCODERS.make(name, **{**ENCODERS[name].tiny, **options}).eval()


def tiny_model(encoder: str, upsampler: str = "spconv") -> SRModel:
    torch.manual_seed(0)
    head = dict(UPSAMPLERS[upsampler].tiny)
    if "scales" in inspect.signature(UPSAMPLERS[upsampler].factory).parameters:
        head["scales"] = [2]
    config = ModelConfig(
        encoder=PartConfig(name=encoder, options=dict(ENCODERS[encoder].tiny)),
        upsampler=PartConfig(name=upsampler, options=head),
        mean=(0.4, 0.5, 0.6),
        value_range=2.0,
    )
    return build(config).eval()


def picture_for(encoder: Encoder, count: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """A picture of a size that the encoder takes unpadded, not square."""
    step = encoder.multiple_of
    side = -(-max(8, encoder.minimum_size) // step) * step
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, encoder.in_channels, side, side + step, generator=generator, dtype=dtype)


@pytest.mark.parametrize("name", NAMES)
def test_features_have_the_declared_shape(name: str) -> None:
    encoder = tiny(name)
    image = picture_for(encoder, count=2)
    with torch.no_grad():
        features = encoder(image)
    assert features.shape == (2, encoder.out_channels, *image.shape[-2:])
    assert features.dtype == torch.float32
    assert features.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_a_batch_do_not_mix(name: str) -> None:
    encoder = tiny(name).double()
    images = picture_for(encoder, count=2, dtype=torch.float64)
    with torch.no_grad():
        together, alone = encoder(images), encoder(images[1:])
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_repeats_itself_and_leaves_its_input(name: str) -> None:
    encoder = tiny(name)
    image = picture_for(encoder)
    before = image.clone()
    with torch.no_grad():
        first, second = encoder(image), encoder(image)
    assert torch.equal(first, second)
    assert torch.equal(image, before)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (13, 9)])
@pytest.mark.parametrize("name", NAMES)
def test_any_size_works_through_the_model(name: str, size: tuple[int, int]) -> None:
    with torch.no_grad():
        output = tiny_model(name)(torch.rand(1, 3, *size), 2)
    assert output.shape == (1, 3, 2 * size[0], 2 * size[1])
    assert output.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_grey_pictures_work_where_the_encoder_says_so(name: str) -> None:
    if "in_channels" not in inspect.signature(ENCODERS[name].factory).parameters:
        pytest.skip(f"{name} makes features of colour pictures only")
    encoder = tiny(name, in_channels=1)
    assert encoder.in_channels == 1
    with torch.no_grad():
        assert encoder(picture_for(encoder)).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_beyond_the_context_changes_a_feature(name: str) -> None:
    encoder = tiny(name).double()
    if encoder.context is None:
        pytest.skip(f"{name} looks at the whole picture")
    radius, step = encoder.context, encoder.multiple_of
    side = -(-max(4, encoder.minimum_size) // step) * step
    width = -(-(4 * radius + 9) // step) * step
    image = torch.rand(1, 3, side, width, dtype=torch.float64, requires_grad=True)
    features = encoder(image)
    column = width // 2
    (features[..., column] * torch.randn_like(features[..., column])).sum().backward()
    assert image.grad is not None
    touched = image.grad.abs().amax(dim=(0, 1, 2)).nonzero().flatten()
    reach = int((touched - column).abs().max())
    assert radius // 2 < reach <= radius


@pytest.mark.parametrize("name", NAMES)
def test_a_tile_with_its_context_equals_the_whole(name: str) -> None:
    encoder = tiny(name).double()
    if encoder.context is None:
        pytest.skip(f"{name} looks at the whole picture")
    step = encoder.multiple_of
    halo = -(-encoder.context // step) * step
    side = -(-max(4, encoder.minimum_size) // step) * step
    tile = max(2, -(-encoder.minimum_size // step)) * step
    width = 2 * halo + 2 * tile
    image = torch.rand(1, 3, side, width, dtype=torch.float64)
    with torch.no_grad():
        whole = encoder(image)
        middle = encoder(image[..., tile : tile + 2 * halo + tile])
        left = encoder(image[..., : tile + halo])
    inner = slice(tile + halo, 2 * tile + halo)
    torch.testing.assert_close(middle[..., halo : halo + tile], whole[..., inner], rtol=0, atol=1e-10)
    torch.testing.assert_close(left[..., :tile], whole[..., :tile], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_a_training_step_reaches_every_parameter(name: str) -> None:
    encoder = tiny(name).train()
    encoder(picture_for(encoder, count=2)).square().mean().backward()
    missed = [key for key, parameter in encoder.named_parameters() if parameter.grad is None]
    assert not missed
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_gradients_also_flow_in_eval_mode(name: str) -> None:
    encoder = tiny(name)
    image = picture_for(encoder).requires_grad_()
    encoder(image).square().mean().backward()
    assert image.grad is not None
    assert image.grad.abs().max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_state_holds_parameters_only(name: str) -> None:
    encoder = tiny(name)
    assert encoder.state_dict().keys() == dict(encoder.named_parameters()).keys()


@pytest.mark.parametrize("name", NAMES)
def test_double_precision_agrees_with_single(name: str) -> None:
    encoder = tiny(name)
    image = picture_for(encoder)
    with torch.no_grad():
        single, double = encoder(image), encoder.double()(image.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_stays_near_single(name: str) -> None:
    encoder = tiny(name)
    image = picture_for(encoder)
    with torch.no_grad():
        single = encoder(image)
        with torch.autocast("cpu", torch.bfloat16):
            half = encoder(image).float()
    assert half.isfinite().all()
    assert (half - single).abs().mean() <= 0.05 * single.abs().mean()


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_changes_nothing_but_rounding(name: str) -> None:
    encoder = tiny(name)
    image = picture_for(encoder)
    with torch.no_grad():
        plain = encoder(image)
        last = encoder.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("upsampler", list(UPSAMPLERS))
@pytest.mark.parametrize("name", FAMILIES)
def test_every_pairing_trains_fuses_saves_and_loads(name: str, upsampler: str, tmp_path: Path) -> None:
    model = tiny_model(name, upsampler)
    image = torch.rand(1, 3, 9, 8)
    optimiser = torch.optim.SGD(model.train().parameters(), lr=1e-4)
    model(image, 2).square().mean().backward()
    optimiser.step()
    with torch.no_grad():
        expected = model.eval()(image, 2)
        torch.testing.assert_close(fuse(model, 2)(image), expected, rtol=1e-5, atol=1e-5)
        save(model, tmp_path / "model.safetensors")
        assert torch.equal(load(tmp_path / "model.safetensors")(image, 2), expected)
