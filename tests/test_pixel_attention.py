"""Pixel attention: what it computes, by torch and by native kernels, and in EDSR's blocks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training_runs import config, save_pictures

import polyres
from polyres.encoders import ENCODERS
from polyres.encoders.edsr import EDSR, ResidualBlock
from polyres.errors import CheckpointError, ConfigError
from polyres.layers import native
from polyres.layers.equivariance import exchanged
from polyres.layers.native import Attention, Kernels, convolve, fast_convolutions, residual
from polyres.layers.pixel_attention import PixelAttention
from polyres.training.start import initial_model
from polyres.training.symmetry import begin_equivariant


def attention(channels: int, opposed: bool = False) -> PixelAttention:
    torch.manual_seed(channels)
    made = PixelAttention(channels)
    weight = torch.randn_like(made.mix.weight) / 4
    made.mix.weight = nn.Parameter(weight + exchanged(weight, [0, 1]) if opposed else weight)
    return made


def features(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).relu()


def test_it_begins_by_changing_nothing() -> None:
    given = features(2, 8, 5, 4)
    assert torch.equal(PixelAttention(8)(given), given)


def test_each_channel_is_weighted_by_the_shares_of_all() -> None:
    module, given = attention(6), features(1, 6, 3, 4)
    given[..., 1, 2] = 0
    made, matrix = module(given).detach(), module.mix.weight.detach()[:, :, 0, 0]
    for row in range(3):
        for column in range(4):
            pixel = given[0, :, row, column]
            mixture = torch.stack([(line * pixel).sum() for line in matrix]) / (pixel.sum() / 6 + 1e-6)
            weights = torch.tensor([max(0, 1 + float(m)) for m in mixture])
            torch.testing.assert_close(made[0, :, row, column], pixel * weights)
    assert not made[..., 1, 2].any()


@pytest.mark.parametrize("factor", [0.01, 30.0])
def test_stronger_features_have_the_same_weights(factor: float) -> None:
    module, given = attention(8), features(1, 8, 6, 5) + 0.01  # where all are zero, weights do not matter
    module.least = 0.0
    torch.testing.assert_close(module(given * factor), module(given) * factor, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("side", [(1, 1), (3, 5), (12, 13)])
@pytest.mark.parametrize(
    ("channels", "opposed"), [(16, False), (48, False), (64, False), (64, True), (128, True)]
)
def test_native_kernels_compute_the_same_with_the_same_gradients(
    channels: int, opposed: bool, side: tuple[int, int], kernels: Kernels
) -> None:
    module, given = attention(channels, opposed), features(2, channels, *side)
    toward = torch.randn_like(given)

    def run(fast: bool) -> list[Tensor]:
        module.zero_grad()
        leaf = given.clone().requires_grad_()
        with fast_convolutions(fast, [module.mix.weight] if opposed else []):
            made = module(leaf)
            made.backward(toward)
        assert ("_Attention" in type(made.grad_fn).__name__) == (fast and not channels % kernels.lanes)
        assert leaf.grad is not None
        assert module.mix.weight.grad is not None
        of_weight = module.mix.weight.grad.clone()
        if opposed:  # the kernels' is the mean over their exchange
            of_weight = (of_weight + exchanged(of_weight, [0, 1])) / 2
        return [made.detach(), leaf.grad, of_weight]

    for ours, torchs in zip(run(True), run(False), strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=2e-5 * float(torchs.abs().max()))


def test_native_results_do_not_depend_on_where_a_pixel_lies(kernels: Kernels) -> None:
    """So that tiles equal the whole picture."""
    module, given = attention(64, opposed=True).requires_grad_(False), features(1, 64, 17, 19)
    for opposed in ([], [module.mix.weight]):
        with fast_convolutions(opposed=opposed):
            whole = module(given)
            assert torch.equal(module(given[:, :, 3:8, 5:16]), whole[:, :, 3:8, 5:16])


def test_channels_of_no_whole_vectors_are_left_to_torch(kernels: Kernels) -> None:
    module, given = attention(17).requires_grad_(False), features(1, 17, 4, 4)
    with fast_convolutions():
        made = module(given)
    assert torch.equal(made, module(given))
    with pytest.raises(ValueError, match="a size or precision that it is not made for"):
        kernels.attention(torch.rand(3, 17), Attention(torch.rand(17, 17), 1e-6))


def edsr(every: int = 1, channels: int = 32, blocks: int = 4) -> EDSR:
    torch.manual_seed(1)
    made = ENCODERS.make(
        "edsr-baseline",
        channels=channels,
        blocks=blocks,
        normalisation_equivariant=True,
        attention_every=every,
    )
    assert isinstance(made, EDSR)
    for module in made.modules():
        if isinstance(module, PixelAttention):
            nn.init.normal_(module.mix.weight, std=0.2)
    return made.eval()


@pytest.mark.parametrize(("every", "blocks"), [(0, []), (1, [0, 1, 2, 3]), (2, [1, 3]), (3, [2]), (5, [])])
def test_of_so_many_blocks_the_last_has_it(every: int, blocks: list[int]) -> None:
    with_it = [i for i, block in enumerate(edsr(every).body) if block.attention is not None]
    assert with_it == blocks


def test_a_number_of_blocks_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="attention_every is 0, for none, or a number of blocks; got -1"):
        ENCODERS.make("edsr-baseline", attention_every=-1)


@pytest.mark.parametrize("opposed", [False, True])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("side", [(1, 1), (4, 9), (23, 30), (5, 50)])
def test_a_block_in_passing_is_its_parts_to_the_bit(
    opposed: bool, narrow: bool, side: tuple[int, int], kernels: Kernels
) -> None:
    torch.manual_seed(3)
    block = ResidualBlock(64, attention=True).requires_grad_(False)
    assert block.attention is not None
    nn.init.normal_(block.attention.mix.weight, std=0.2)
    weights = [block.conv1.weight, block.conv2.weight, block.attention.mix.weight]
    for weight in weights:
        weight += exchanged(weight, [0, 1])
    given = torch.randn(2, 64, *side)
    with fast_convolutions(opposed=weights if opposed else [], narrow=narrow), torch.no_grad():
        hidden = block.attention(convolve(block.conv1, given, slope=0))
        wanted = convolve(block.conv2, hidden, add=given)
        assert not torch.equal(block(given), residual(block.conv1, block.conv2, given))
        for threads in (1, 3):
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            made = block(given)
            torch.set_num_threads(before)
            assert torch.equal(made, wanted)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_block_weighs_what_is_between_its_convolutions(scale: float) -> None:
    torch.manual_seed(2)
    block = ResidualBlock(8, residual_scale=scale, attention=True).eval()
    assert block.attention is not None
    nn.init.normal_(block.attention.mix.weight)
    given = torch.randn(1, 8, 6, 7)
    with torch.no_grad():
        wanted = given + scale * block.conv2(block.attention(block.conv1(given).relu()))
        torch.testing.assert_close(block(given), wanted)


@torch.no_grad()
def test_halved_and_native_it_computes_the_same(kernels: Kernels) -> None:
    encoder = edsr(channels=64)
    begin_equivariant(encoder, "turns-and-negatives", encoder.state_dict().keys())
    assert all(block.attention.mix.weight.any() for block in encoder.body)
    image = torch.rand(2, 3, 13, 9)
    wanted = encoder(image)
    halved = encoder.halved()
    counts = [sum(p.numel() for p in one.body.parameters()) for one in (halved, encoder, halved.whole())]
    assert counts == [counts[1] // 2, counts[1], counts[1]]
    opposed = native.opposed_weights(encoder)
    assert len(opposed) == 3 * 4 + 1
    with fast_convolutions(opposed=opposed):
        fast = encoder(image)
    for made in (halved(image), halved.whole()(image), fast):
        torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_attention_that_treats_negatives_differently_is_not_halved() -> None:
    encoder = edsr(channels=32)
    begin_equivariant(encoder, "turns-and-negatives", encoder.state_dict().keys())
    assert encoder.halved() is not encoder
    nn.init.normal_(encoder.body[2].attention.mix.weight)
    assert encoder.halved() is encoder


def model(every: int = 0, blocks: int = 2) -> dict[str, object]:
    """The model section of a run file."""
    options = {"channels": 16, "blocks": blocks, "normalisation_equivariant": True, "attention_every": every}
    return {
        "encoder": {"name": "edsr-baseline", "options": options},
        "upsampler": {"name": "igconv", "options": {"width": 8, "hidden_layers": 1}},
    }


def test_a_run_begins_with_what_a_file_without_it_computes(tmp_path: Path) -> None:
    plain = polyres.build(polyres.ModelConfig.model_validate(model())).eval()
    polyres.save(plain, tmp_path / "plain.safetensors")
    initial = dict.fromkeys(("encoder", "upsampler"), str(tmp_path / "plain.safetensors"))
    save_pictures(tmp_path)
    begun = initial_model(config(tmp_path, model=model(every=1), initial=initial)).eval()
    image = torch.rand(1, 3, 9, 8)
    torch.testing.assert_close(begun(image, "5/2"), plain(image, "5/2"))
    polyres.save(begun, tmp_path / "attending.safetensors")
    back = dict.fromkeys(("encoder", "upsampler"), str(tmp_path / "attending.safetensors"))
    with pytest.raises(CheckpointError, match=r"2 of 6 weights differ \(body.0.attention.mix.weight"):
        initial_model(config(tmp_path, model=model(every=0), initial=back))


def test_merged_blocks_have_rows_of_both(tmp_path: Path) -> None:
    file = tmp_path / "two.safetensors"
    two = polyres.build(polyres.ModelConfig.model_validate(model(every=1)))
    for parameter in two.encoder.parameters():
        nn.init.normal_(parameter)
    polyres.save(two, file)
    save_pictures(tmp_path)
    initial = {**dict.fromkeys(("encoder", "upsampler"), str(file)), "merged": [0]}
    begun = initial_model(config(tmp_path, model=model(every=1, blocks=1), initial=initial))
    rows = [begun.encoder.body[0].attention.mix.weight, *(b.attention.mix.weight for b in two.encoder.body)]
    assert torch.equal(rows[0][::2], rows[1][::2])
    assert torch.equal(rows[0][1::2], rows[2][1::2])


def test_it_is_exported(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra 'export'")
    pytest.importorskip("onnxruntime", reason="needs the extra 'export'")
    from polyres.deploy.onnx import OnnxModel, export_onnx

    made = polyres.build(polyres.ModelConfig.model_validate(model(every=1))).eval()
    for module in made.modules():
        if isinstance(module, PixelAttention):
            nn.init.normal_(module.mix.weight)
    export_onnx(polyres.fuse(made, 2), tmp_path / "model.onnx", {})
    image = torch.rand(1, 3, 11, 14)
    with torch.no_grad():
        torch.testing.assert_close(
            OnnxModel(tmp_path / "model.onnx")(image), made(image, 2), atol=1e-5, rtol=0
        )
