"""Readers of SwinIR, SRFormer and HAT checkpoints: what option files say, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from polyres.errors import ConfigError
from polyres.model import ModelConfig
from polyres.weights.compat import FOREIGN


def config(kind: str, **arguments: Any) -> ModelConfig:
    network_g = {"type": kind, "img_size": 64, "window_size": 8, "upsampler": "pixelshuffle", **arguments}
    (reader,) = FOREIGN[kind]
    return reader.configure(reader.arguments(network_g))


@pytest.mark.parametrize(
    ("head", "name", "options"),
    [
        ("pixelshuffle", "spconv+", {"scales": [4], "channels": 64, "out_channels": 3}),
        ("pixelshuffledirect", "spconv", {"scales": [4], "out_channels": 3}),
        ("nearest+conv", "nearest+conv", {"scales": [4], "channels": 64, "out_channels": 3}),
    ],
)
def test_fixed_heads_keep_their_scale(head: str, name: str, options: dict) -> None:
    upsampler = config("SwinIR", upsampler=head, upscale=4).upsampler
    assert (upsampler.name, upsampler.options) == (name, options)


def test_the_sampler_has_half_the_layers_and_the_same_kernels() -> None:
    upsampler = config(
        "SwinIRMS", upsampler="igconv+igsample", sk_kernel_size=5, implicit_dim=64, latent_layers=6
    ).upsampler
    assert upsampler.name == "igconv+"
    wanted = {"kernel_size": 5, "sample_kernel_size": 5, "width": 64, "sample_width": 32, "sample_layers": 3}
    assert wanted.items() <= upsampler.options.items()


def test_grey_networks_have_no_mean() -> None:
    grey = config("SwinIR", in_chans=1)
    assert grey.mean == (0.0,)
    assert grey.encoder.options["in_channels"] == grey.upsampler.options["out_channels"] == 1


@pytest.mark.parametrize("kind", ["SwinIR", "HAT"])
def test_training_pictures_of_one_window_leave_out_the_shift(kind: str) -> None:
    assert config(kind).encoder.options["shifted"]
    assert not config(kind, img_size=8).encoder.options["shifted"]


def test_srformer_rounds_its_training_pictures_up_to_windows() -> None:
    assert config("SRFormer", img_size=23, window_size=22).encoder.options["shifted"]
    assert not config("SRFormer", img_size=10, window_size=22).encoder.options["shifted"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"upsampler": "nearest+conv", "upscale": 3}, "makes x2 or x4"),
        ({"img_size": 4}, "img_size must be at least window_size"),
        ({"upsampler": ""}, "enlarges nothing"),
        ({"upsampler": "igconv"}, "enlarges nothing"),  # the fixed-scale class has none
        ({"resi_connection": "2conv"}, "resi_connection is one of"),
        ({"windowsize": 8}, "window_size"),
    ],
)
def test_what_would_compute_something_else_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config("SwinIR", **arguments)
