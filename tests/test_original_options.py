"""Options of the originals beyond the released networks: each counts as published, or is refused in one line."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polyres.encoders.grouped import GroupedEncoder
from polyres.encoders.hat import OverlappingAttention
from polyres.encoders.srformer import PermutedAttention
from polyres.errors import CheckpointError, ConfigError, PictureError
from polyres.layers.attention import WindowAttention
from polyres.layers.phases import embed, phase_conv2d
from polyres.model import build
from polyres.scale import Scale
from polyres.upsamplers.igconv import IGConv
from polyres.upsamplers.igsample import IGSample
from polyres.weights import load
from polyres.weights.compat import READERS, configured
from polyres.weights.compat.base import Foreign

#: A small network of each family, in the originals' words.
_TRANSFORMER = {
    "embed_dim": 24,
    "depths": [2, 1],
    "num_heads": [2, 3],
    "img_size": 16,
    "upsampler": "pixelshuffle",
}
SMALL: dict[str, dict[str, Any]] = {
    "EDSR": {"num_feat": 8, "num_block": 1, "upscale": 2},
    "EDSRIG": {"num_feat": 8, "num_block": 1, "implicit_dim": 8},
    "EDSRIGPlus": {"num_feat": 8, "num_block": 1, "implicit_dim": 8},
    "RCAN": {"n_resgroups": 1, "n_resblocks": 1, "n_feats": 8, "reduction": 4, "scale": 2},
    "RCANIGPlus": {"n_resgroups": 1, "n_resblocks": 1, "n_feats": 8, "reduction": 4, "implicit_dim": 8},
    "RDN": {"G0": 8, "RDNconfig": [2, 2, 4]},
    "RDNIG": {"G0": 8, "RDNconfig": [2, 2, 4], "implicit_dim": 8},
    "RDNIGPlus": {"G0": 8, "RDNconfig": [2, 2, 4], "implicit_dim": 8},
    "SMFANet": {"dim": 8, "n_blocks": 1, "upscaling_factor": 2},
    "SMFANetIG": {"dim": 8, "n_blocks": 1, "implicit_dim": 8},
    "SMFANetIGPlus": {"dim": 8, "n_blocks": 1, "implicit_dim": 8},
    "SAFMN": {"dim": 8, "n_blocks": 1, "upscaling_factor": 2},
    "PLKSR": {"dim": 8, "n_blocks": 1, "kernel_size": 9, "upscaling_factor": 2},
    "PLKSRIGPlus": {"dim": 8, "n_blocks": 1, "kernel_size": 9, "implicit_dim": 8},
    "SwinIR": {**_TRANSFORMER, "window_size": 4},
    "SwinIRMS": {**_TRANSFORMER, "window_size": 4, "upsampler": "igconv+igsample", "implicit_dim": 8},
    "SRFormer": {**_TRANSFORMER, "window_size": 4},
    "HAT": {**_TRANSFORMER, "window_size": 4, "squeeze_factor": 6},
    "ATD": {**_TRANSFORMER, "window_size": 4, "category_size": 9, "num_tokens": 5, "reducted_dim": 3},
    "MambaIR": {"embed_dim": 32, "depths": [1], "d_state": 2, "upsampler": "pixelshuffle"},
    "HiT_SIR": {**_TRANSFORMER, "base_win_size": [4, 4], "hier_win_ratios": [0.5, 2], "upscale": 2},
    "HiT_SNG": {**_TRANSFORMER, "base_win_size": [4, 4], "hier_win_ratios": [0.5, 2], "upscale": 2},
    "HiT_SRF": {**_TRANSFORMER, "base_win_size": [4, 4], "hier_win_ratios": [0.5, 2], "upscale": 2},
}
#: Another value of each argument that must count.
OTHER: dict[str, Any] = {
    "num_feat": 12, "num_block": 2, "num_group": 2, "n_feats": 12, "n_resgroups": 2, "n_resblocks": 2, "dim": 12,
    "n_blocks": 2, "G0": 12, "embed_dim": 48, "depths": [1, 2], "num_heads": [3, 2], "reduction": 2,
    "squeeze_factor": 4,
    "rgb_range": 1, "img_range": 7.0, "rgb_mean": [0.1, 0.2, 0.3], "n_colors": 1, "in_chans": 1, "num_in_ch": 1,
    "num_out_ch": 1, "ffn_scale": 1.5, "RDNkSize": 5, "RDNconfig": [1, 2, 4], "mlp_ratio": 1.5, "window_size": 8,
    "base_win_size": [8, 8], "hier_win_ratios": [1, 2], "qkv_bias": False, "qk_scale": 0.5, "ape": True,
    "patch_norm": False, "drop_path_rate": 0.2, "resi_connection": "3conv", "upsampler": "pixelshuffledirect",
    "compress_ratio": 2, "conv_scale": 0.5, "overlap_ratio": 1.0, "category_size": 11, "num_tokens": 7,
    "reducted_dim": 4, "convffn_kernel_size": 7, "d_state": 3, "ccm_type": "ICCM", "kernel_size": 5,
    "split_ratio": 0.5, "lk_type": "SparsePLK", "with_idt": True, "use_ea": False, "sk_kernel_size": 5,
    "implicit_dim": 12, "latent_layers": 2, "n_layers": 2, "dysample_kernel_size": 5, "max_s": 8,
    "upscale": 8, "scale": [8], "upscaling_factor": 3, "img_size": 8,
}  # fmt: skip
#: Arguments without effect on what a network computes, in any class.
FREE = {
    "use_checkpoint", "return_skip", "drop_rate", "attn_drop_rate", "value_drop_rate", "norm_layer", "data_train",
    "is_coreml", "expansion_factor", "A", "B", "S", "T",
}  # fmt: skip


def small(reader: Foreign, **arguments: Any) -> dict[str, Any]:
    own = {**SMALL[reader.type], **arguments}
    return {name: value for name, value in own.items() if name in reader.defaults}


def cases() -> list[Any]:
    return [
        pytest.param(reader, name, id=f"{reader.type}-{index}-{name}")
        for index, reader in enumerate(READERS)
        if reader.type in SMALL
        for name in reader.defaults
        if name in OTHER and not idle(reader, name)
    ]


def idle(reader: Foreign, name: str) -> bool:
    """Whether ``name`` counts in other classes only, or is refused."""
    generated = reader.type.endswith(("IG", "IGPlus", "MS"))
    if name in ("in_chans", "num_in_ch", "n_colors"):
        return reader.type.endswith(("Plus", "MS"))  # IGConv+ samples three colours
    if name in ("upscale", "upscaling_factor", "num_out_ch"):
        return generated
    if name == "img_size":  # of learned positions only
        return reader.type.startswith(("HiT", "ATD", "MambaIR"))
    return name in ("sk_kernel_size", "implicit_dim", "latent_layers", "max_s") and not generated


@pytest.mark.parametrize(("reader", "name"), cases())
def test_every_argument_counts(reader: Foreign, name: str) -> None:
    base = (
        {"window_size": 8} if name == "img_size" else {}
    )  # windows as large as the pictures are never moved
    plain, varied = (
        reader.config(reader.arguments(small(reader, **base, **more))) for more in ({}, {name: OTHER[name]})
    )
    assert varied != plain


def test_every_argument_is_looked_at() -> None:
    known = OTHER.keys() | FREE
    unknown = {name for reader in READERS if reader.type in SMALL for name in reader.defaults} - known
    assert unknown == {
        "patch_size", "res_scale", "geo_ensemble", "no_upsampling", "sparse_kernels", "sparse_dilations",
        "use_max_kernel",
    }  # fmt: skip


#: Networks unlike the recorded ones.
UNLIKE = [
    ("SwinIR", {"window_size": 7, "mlp_ratio": 1.5}),
    ("SwinIR", {"embed_dim": 30, "qkv_bias": False, "patch_norm": False, "resi_connection": "3conv"}),
    ("SwinIR", {"in_chans": 1, "upsampler": "nearest+conv", "upscale": 4, "img_range": 255.0}),
    ("SwinIRMS", {"sk_kernel_size": 5, "latent_layers": 1, "implicit_dim": 6}),
    ("SwinIRMS", {"upsampler": "igconv", "latent_layers": 0, "in_chans": 1}),
    ("SRFormer", {"window_size": 10, "qk_scale": 0.3, "patch_norm": False}),
    ("HAT", {"overlap_ratio": 0.0, "compress_ratio": 5, "conv_scale": 1.0}),
    ("HAT", {"overlap_ratio": 1.0, "qk_scale": 0.3, "resi_connection": "identity"}),
    ("ATD", {"category_size": 1000, "qkv_bias": False, "convffn_kernel_size": 3, "window_size": 5}),
    ("MambaIR", {"d_state": 1, "mlp_ratio": 0.5, "patch_norm": False}),
    ("MambaIR", {"embed_dim": 45, "upsampler": "igconv+igsample", "implicit_dim": 8, "max_s": 2}),
    ("HiT_SIR", {"base_win_size": [5, 5], "hier_win_ratios": [3, 0.25]}),
    ("HiT_SNG", {"embed_dim": 36, "num_heads": [3, 1], "base_win_size": [3, 3]}),
    ("HiT_SRF", {"base_win_size": [4, 8], "patch_norm": False}),
    ("PLKSR", {"ccm_type": "CCM", "split_ratio": 1.0, "use_ea": False}),
    ("PLKSR", {"lk_type": "SparsePLK", "use_max_kernel": True, "with_idt": True, "upscaling_factor": 5}),
    ("PLKSR", {"lk_type": "RectSparsePLK"}),
    ("SMFANet", {"dim": 13, "ffn_scale": 1.5}),
    ("RDN", {"RDNkSize": 5, "n_colors": 1, "scale": 4}),
    ("RCANIGPlus", {"dysample_kernel_size": 5, "n_layers": 1}),
    ("EDSRIGPlus", {"sk_kernel_size": 1, "img_range": 255.0}),
]


@pytest.mark.parametrize(("kind", "arguments"), UNLIKE)
def test_networks_unlike_the_recorded_ones_enlarge_any_picture(
    kind: str, arguments: Mapping[str, Any]
) -> None:
    torch.manual_seed(0)
    config = configured({"type": kind, **SMALL[kind], **arguments})
    model = build(config).eval()
    scale = config.upsampler.options.get("scales", [3])[0]
    image = torch.rand(1, model.encoder.in_channels, 9, 5)
    with torch.no_grad():
        output = model(image, scale)
    assert output.shape == (1, config.upsampler.options.get("out_channels", 3), 9 * scale, 5 * scale)
    assert output.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("HAT", {"squeeze_factor": 48}, "reduction must be from 1 to the 24 channels"),
        ("HAT", {"compress_ratio": 48}, "compression must be from 1 to the 24 channels"),
        ("HAT", {"overlap_ratio": 0.75, "window_size": 4}, "even number of pixels"),
        ("SwinIRMS", {"implicit_dim": 31}, "width must be even"),
        ("SwinIRMS", {"sk_kernel_size": 4}, "must be odd"),
        ("SwinIRMS", {"in_chans": 1}, "IGConv. samples pictures of 3 colours"),
        ("ATD", {"convffn_kernel_size": 4}, "odd side"),
        ("PLKSR", {"split_ratio": 0.01}, "split must leave"),
        ("PLKSR", {"split_ratio": 1.5}, "split must leave"),
        ("PLKSR", {"kernel_size": 8}, "odd height and width"),
        ("RDN", {"RDNkSize": 4}, "kernel_size must be odd"),
        ("HiT_SIR", {"hier_win_ratios": [1.5, 2]}, "whole cells"),
    ],
)
def test_what_the_originals_cannot_run_is_refused(kind: str, arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        build(configured({"type": kind, **SMALL[kind], **arguments}))
    assert "\n" not in str(refused.value)


def test_dropout_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        configured({"type": "SwinIR", **SMALL["SwinIR"], "drop_rate": 0.0})
        assert not caplog.records
        configured({"type": "SwinIR", **SMALL["SwinIR"], "drop_rate": 0.1, "attn_drop_rate": 0.2})
    assert "drop_rate=0.1, attn_drop_rate=0.2 changes nothing but training" in caplog.text


@pytest.mark.parametrize("rates", [(0.0, 0.0), (0.3, 0.5)])
def test_stochastic_depth_is_for_training_only(rates: tuple[float, float]) -> None:
    outputs = []
    for rate in rates:
        torch.manual_seed(0)
        model = build(configured({"type": "SwinIR", **SMALL["SwinIR"], "drop_path_rate": rate})).eval()
        outputs.append(model(torch.full((1, 3, 8, 8), 0.3), 2))
    assert torch.equal(*outputs)


class Doubling(nn.Module):
    """A group that can be seen in the result."""

    def forward(self, features: Tensor) -> Tensor:
        return 2 * features


@pytest.mark.parametrize("input_norm", [True, False])
@pytest.mark.parametrize("positions", [0, 12])
def test_pixels_are_normalised_then_placed(input_norm: bool, positions: int) -> None:
    torch.manual_seed(0)
    encoder = GroupedEncoder([Doubling()], 6, input_norm=input_norm, positions=positions)
    encoder.context = None
    image = torch.rand(2, 3, 4, 3)
    shallow = encoder.head(image)
    pixels = shallow.flatten(2).mT
    if input_norm:
        pixels = nn.functional.layer_norm(pixels, (6,))
    if positions:
        pixels = pixels + encoder.positions
    deep = nn.functional.layer_norm(2 * pixels, (6,)).mT.unflatten(2, (4, 3))
    torch.testing.assert_close(encoder(image), shallow + encoder.tail(deep))


@pytest.mark.parametrize("kind", ["SwinIR", "SRFormer"])
def test_learned_positions_leave_no_context(kind: str) -> None:
    for ape in (False, True):
        config = configured({"type": kind, **SMALL[kind], "ape": ape})
        assert (build(config).encoder.context is None) == ape


def test_learned_positions_take_as_many_pixels_only() -> None:
    encoder = GroupedEncoder([], 6, positions=12)
    assert encoder(torch.rand(1, 3, 2, 6)).shape == (1, 6, 2, 6)
    with pytest.raises(PictureError, match="12 pixels and takes no other pictures; got 4x4"):
        encoder(torch.rand(1, 3, 4, 4))


@pytest.mark.parametrize("kind", [WindowAttention, PermutedAttention, OverlappingAttention])
def test_a_scale_of_its_own_replaces_that_of_the_heads(kind: type) -> None:
    torch.manual_seed(0)
    plain, scaled = kind(8, 2, 4, 2).double(), kind(8, 2, 4, 2, scale=0.2).double()
    scaled.load_state_dict(plain.state_dict())
    queries = plain.query if kind is PermutedAttention else plain.mix
    with torch.no_grad():  # the same by way of the queries, 4 channels a head
        queries.weight[:8] *= 0.2 * 4**0.5
        queries.bias[:8] = torch.randn(8)
        mixed = scaled.query if kind is PermutedAttention else scaled.mix
        mixed.bias[:8] = queries.bias[:8] / (0.2 * 4**0.5)
    features = torch.randn(1, 8, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(scaled(features), plain(features))


@pytest.mark.parametrize(("kernel_size", "sample_kernel_size"), [(1, 3), (3, 5), (5, 3)])
@pytest.mark.parametrize("geometric", [False, True])
def test_generator_and_sampler_have_kernels_of_their_own_size(
    kernel_size: int, sample_kernel_size: int, geometric: bool
) -> None:
    torch.manual_seed(0)
    options = {"width": 8, "hidden_layers": 1, "sample_width": 4, "sample_layers": 1, "geometric": False}
    head = IGConv(4, 3, kernel_size, base="sample", sample_kernel_size=sample_kernel_size, **options).double()
    features, image = torch.randn(1, 4, 6, 5).double(), torch.rand(1, 3, 6, 5).double()
    scale = Scale.of(2)
    colours = phase_conv2d(features, embed(head.kernels(scale), scale), None, scale)
    maps = phase_conv2d(features, embed(head.sampler.kernels(scale), scale), None, scale)
    expected = colours + IGSample.sample(image, maps, scale)
    if geometric:
        head.geometric = True
        expected = head.at(2)(features, image)
    torch.testing.assert_close(head(features, image, 2), expected)


def recorded(shared: Path, stem: str) -> tuple[dict, dict[str, Tensor]]:
    path = shared / "parity" / "open" / f"{stem}.json"
    if not path.is_file():
        pytest.skip(f"no recording {path}")
    meta = json.loads(path.read_text())
    return {"type": meta["cls"], **meta["kwargs"]}, load_file(path.with_suffix(".safetensors"))


def reloaded(tensors: dict[str, Tensor], network_g: dict, folder: Path) -> nn.Module:
    save_file({key: t.contiguous() for key, t in tensors.items() if "/" not in key}, folder / "t.safetensors")
    return load(folder / "t.safetensors", network_g=network_g)


FIXTURES = ["swinir_x2", "srformer_igplus", "hat_x2", "atd_x2", "hit_srf_x2"]


@pytest.mark.parametrize("stem", FIXTURES)
def test_checkpoints_with_learned_positions_load(stem: str, shared: Path, tmp_path: Path) -> None:
    network_g, tensors = recorded(shared, stem)
    side = 18 if stem.startswith("srformer") else 16  # rounded up to windows of 6
    network_g["ape"] = True
    channels = network_g["embed_dim"]
    image = torch.rand(1, 3, side, side)
    with torch.no_grad():
        plain = reloaded(tensors, {**network_g, "ape": False}, tmp_path)(image, 2)
        tensors["absolute_pos_embed"] = torch.zeros(1, side * side, channels)
        assert torch.equal(reloaded(tensors, network_g, tmp_path)(image, 2), plain)
        tensors["absolute_pos_embed"] = torch.randn(1, side * side, channels)
        model = reloaded(tensors, network_g, tmp_path)
        assert (model(image, 2) - plain).abs().max() > 0.01
    assert torch.equal(model.encoder.positions, tensors["absolute_pos_embed"][0])
    with pytest.raises(CheckpointError, match=r"1 extra \(encoder.positions\)"):
        reloaded(tensors, {**network_g, "ape": False}, tmp_path)


@pytest.mark.parametrize("stem", [*FIXTURES, "mambair_x2"])
def test_checkpoints_without_the_first_norm_load(stem: str, shared: Path, tmp_path: Path) -> None:
    network_g, tensors = recorded(shared, stem)
    bare = {key: tensor for key, tensor in tensors.items() if not key.startswith("patch_embed.norm")}
    model = reloaded(bare, {**network_g, "patch_norm": False}, tmp_path)
    assert isinstance(model.encoder.norm_in, nn.Identity)
    with pytest.raises(CheckpointError, match="2 missing"):
        reloaded(bare, network_g, tmp_path)


@pytest.mark.parametrize(
    ("stem", "query"), [("swinir_x2", "qkv"), ("srformer_igplus", "q"), ("hat_x2", "qkv")]
)
def test_qk_scale_is_honoured(stem: str, query: str, shared: Path, tmp_path: Path) -> None:
    network_g, tensors = recorded(shared, stem)
    channels, heads = network_g["embed_dim"], network_g["num_heads"][0]
    plain = reloaded(tensors, network_g, tmp_path)
    for key, tensor in tensors.items():
        if f".{query}." in key:
            tensor[:channels] *= 2
    halved = reloaded(tensors, {**network_g, "qk_scale": 0.5 * (channels // heads) ** -0.5}, tmp_path)
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(halved(image, 2), plain(image, 2))


def test_larger_patches_only_divide_the_training_size() -> None:
    def options(**arguments: Any) -> dict[str, Any]:
        return configured({"type": "SwinIR", **SMALL["SwinIR"], **arguments}).encoder.options

    assert options(img_size=32, patch_size=2) == options(img_size=16)
    assert not options(img_size=[8, 16], patch_size=[2, 1])["shifted"]
