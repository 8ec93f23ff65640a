"""Networks that treat turned and negative pictures alike, and the training that makes them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from training_runs import MODEL, config, save_pictures

import polyres
from polyres.deploy import accelerate
from polyres.encoders import ENCODERS, Encoder
from polyres.errors import ConfigError
from polyres.layers import recalibrate
from polyres.layers.blocks import ZeroSumConv2d
from polyres.layers.equivariance import Symmetry, exchanged, keeps_opposites, symmetric
from polyres.training import run
from polyres.training.loop import begin
from polyres.training.start import initial_model
from polyres.training.symmetry import GradientMeans, begin_equivariant, tied_kernels, tied_weights

SYMMETRIES: tuple[Symmetry, ...] = ("flips", "flips-and-negatives", "turns", "turns-and-negatives")

TURNS: dict[str, Callable[[Tensor], Tensor]] = {
    "rows": lambda x: x.flip(-2),
    "columns": lambda x: x.flip(-1),
    "transposed": lambda x: x.mT,
    "quarter": lambda x: torch.rot90(x, 1, (-2, -1)),
}


def parts(symmetry: Symmetry, channels: int = 16, **encoder: Any) -> dict[str, Any]:
    """The model section of a run file: fresh weights of it are not yet symmetric, but for the upsampler's."""
    options = {"channels": channels, "blocks": 2, "centre": 0.5, **encoder}
    upsampler = {"width": 8, "hidden_layers": 1, "base": "bilinear", "spread": 0.5, "equivariant": symmetry}
    return {
        "encoder": {"name": "edsr-baseline", "options": options},
        "upsampler": {"name": "igconv", "options": upsampler},
    }


def network(symmetry: Symmetry) -> polyres.SRModel:
    torch.manual_seed(0)
    model = polyres.build(polyres.ModelConfig.model_validate(parts(symmetry)))
    begin_equivariant(model.encoder, symmetry, model.encoder.state_dict().keys())
    model.upsampler.kernels.damp(10)  # fresh ones hardly show beside the base
    return model.eval()


def distance_from_symmetric(model: polyres.SRModel, symmetry: Symmetry) -> float:
    """The largest relative distance of a weight of the encoder."""
    return max(
        float((weight - one.symmetric(weight)).norm() / weight.norm())
        for one in tied_weights(model.encoder, symmetry)
        if (weight := one.weight.detach()) is not None
    )


def group_average(kernel: Tensor, symmetry: Symmetry) -> Tensor:
    """The mean over the group, element by element, from what each does to each channel; a kernel (O, I, k, k)."""
    negatives = (False, True) if "negatives" in symmetry else (False,)
    transposed = (False, True) if "turns" in symmetry else (False,)
    elements = list(product(negatives, transposed, (False, True), (False, True)))
    return torch.stack([acted_on(kernel, *element) for element in elements]).mean(0)


def acted_on(kernel: Tensor, negated: bool, transposed: bool, rows: bool, columns: bool) -> Tensor:
    """``kernel`` as it is where the picture is transposed, then flipped, then negated."""
    turned = kernel.mT if transposed else kernel
    turned = turned.flip(-2) if rows else turned
    turned = turned.flip(-1) if columns else turned
    colours = kernel.shape[1] % 8 != 0
    outputs = [new_place(c, negated, transposed, rows, columns) for c in range(kernel.shape[0])]
    inputs = [
        c if colours else new_place(c, negated, transposed, rows, columns) for c in range(kernel.shape[1])
    ]
    moved = torch.empty_like(kernel)
    moved[torch.tensor(outputs)[:, None], torch.tensor(inputs)] = turned
    return -moved if colours and negated else moved


def new_place(channel: int, negated: bool, transposed: bool, rows: bool, columns: bool) -> int:
    """Where a channel goes: bits are its half of a group of 16, rows flipped, columns flipped, transposed."""
    a, b, t = channel >> 2 & 1, channel >> 1 & 1, channel & 1
    if transposed:
        a, b, t = b, a, 1 - t
    return (channel & ~7 ^ (8 * negated)) + 4 * (a ^ rows) + 2 * (b ^ columns) + t


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize("inputs", [3, 32])
def test_the_mean_is_that_over_all_elements(symmetry: Symmetry, inputs: int) -> None:
    torch.manual_seed(0)
    kernel = torch.randn(16, inputs, 3, 3)
    channels, colours = ((0,), True) if inputs == 3 else ((0, 1), False)
    mean = symmetric(kernel, symmetry, channels, [(2, 3)], changes_sign=colours)
    torch.testing.assert_close(mean, group_average(kernel, symmetry))
    again = symmetric(mean, symmetry, channels, [(2, 3)], changes_sign=colours)
    torch.testing.assert_close(again, mean)
    assert not torch.allclose(mean, kernel)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_gradients_are_averaged_as_kernels_are(symmetry: Symmetry) -> None:
    encoder = polyres.ENCODERS.make("edsr-baseline", channels=32, blocks=1)
    encoder.to(memory_format=torch.channels_last)
    tied = tied_weights(encoder, symmetry)
    assert len(tied) == len(list(encoder.parameters()))
    gradients = [torch.randn_like(one.weight) for one in tied]
    for one, gradient in zip(tied, gradients, strict=True):
        one.weight.grad = gradient.clone()
    GradientMeans(tied)()
    for one, gradient in zip(tied, gradients, strict=True):
        torch.testing.assert_close(one.weight.grad, one.symmetric(gradient))
        assert one.weight.grad.stride() == gradient.stride()


def test_channels_come_in_whole_groups() -> None:
    with pytest.raises(ValueError, match=r"groups of 16 .* got 24"):
        symmetric(torch.zeros(24), "turns-and-negatives", (0,))


@pytest.mark.parametrize("scale", ["2", "3", "4", "3/2", "5/2", "7/3", ("2", "3"), ("3/2", "5/2")])
@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_a_turned_picture_gives_the_turned_result(symmetry: Symmetry, scale: Any) -> None:
    # Whole periods of every scale: other sizes are cut at one side.
    model, picture = network(symmetry), torch.rand(1, 3, 12, 18)
    swapped = scale if isinstance(scale, str) else scale[::-1]
    with torch.no_grad():
        result = model(picture, scale)
        for name, turn in TURNS.items():
            quarter = name in ("transposed", "quarter")
            other = model(turn(picture), swapped if quarter else scale)
            alike = torch.allclose(other, turn(result), atol=2e-5, rtol=0)
            assert alike == ("turns" in symmetry or not quarter), name
        negative = model(1 - picture, scale)
    as_negative = torch.allclose(negative, 1 - result, atol=2e-5)
    assert as_negative == ("negatives" in symmetry)
    base = F.interpolate(picture, result.shape[-2:], mode="bilinear")
    assert float((result - base).abs().max()) > 1e-2  # there is something to turn


def test_kernels_that_keep_opposites_are_recognised() -> None:
    kernel = torch.randn(32, 48, 3, 3)
    kept = kernel + exchanged(kernel, [0, 1])
    assert keeps_opposites(kept)
    assert keeps_opposites(kept * (1 + 1e-5 * torch.rand_like(kept)))  # roundings
    assert not keeps_opposites(kernel)
    assert not keeps_opposites(kept - 2 * exchanged(kernel, [0, 1]))  # the opposite of a negative's
    kept[3, 7, 1, 2] += 0.01
    assert not keeps_opposites(kept)
    assert not keeps_opposites(torch.ones(24, 48, 3, 3))
    assert not keeps_opposites(torch.ones(48, 3, 3, 3))
    assert keeps_opposites(torch.zeros(16, 16, 3, 3))


def encoder_of_opposites(name: str, **options: Any) -> Encoder:
    """One that treats negatives alike, with biases that are not zero."""
    torch.manual_seed(1)
    encoder = ENCODERS.make(name, channels=32, blocks=3, **options)
    for parameter in encoder.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter)
    begin_equivariant(encoder, "turns-and-negatives", encoder.state_dict().keys())
    return encoder.eval().requires_grad_(False)


@pytest.mark.parametrize("name", ["edsr-baseline", "edsr"])
@pytest.mark.parametrize(
    "options", [{"centre": 0.5}, {"centre": 0.5, "expansion": 2}, {"normalisation_equivariant": True}]
)
def test_halved_it_computes_the_same_with_half_of_the_products(name: str, options: dict[str, Any]) -> None:
    encoder = encoder_of_opposites(name, **options)
    before = copy.deepcopy(encoder.state_dict())
    halved = encoder.halved()
    image = torch.rand(2, 3, 13, 9)
    features = encoder(image)
    torch.testing.assert_close(halved(image), features, rtol=1e-5, atol=1e-5 * float(features.abs().max()))
    whole = halved.whole()
    torch.testing.assert_close(whole(image), features, rtol=1e-5, atol=1e-5 * float(features.abs().max()))
    assert sum(p.numel() for p in whole.parameters()) == sum(p.numel() for p in encoder.parameters())
    assert torch.equal(encoder(image), features)
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    kernels = [sum(p.numel() for p in e.body.parameters() if p.dim() == 4) for e in (encoder, halved)]
    assert kernels[1] * 2 == kernels[0]


def test_only_what_treats_negatives_alike_is_halved() -> None:
    encoder = encoder_of_opposites("edsr-baseline", centre=0.5)
    encoder.body[1].conv2.bias[3] += 0.01
    assert encoder.halved() is encoder
    encoder = encoder_of_opposites("edsr-baseline", centre=0.5)
    encoder.body[1].conv1.weight[3, 4, 1, 0] += 0.01
    others = (
        ENCODERS.make("edsr-baseline", channels=32, blocks=0),
        network("turns").encoder,
        ENCODERS.make("rdn"),
    )
    for other in (encoder, *others):
        assert other.halved() is other.whole() is other


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_fusing_leaves_out_what_opposites_make_twice(symmetry: Symmetry) -> None:
    model = network(symmetry)
    fused = polyres.fuse(model, 2)
    whole = fused.whole()
    counts = [sum(p.numel() for p in one.encoder.body.parameters() if p.dim() == 4) for one in (fused, whole)]
    assert counts[1] == 4 * 16 * 16 * 9
    assert counts[0] == (counts[1] // 2 if "negatives" in symmetry else counts[1])
    assert (whole is fused) == ("negatives" not in symmetry)
    image = torch.rand(1, 3, 9, 14)
    with torch.no_grad():
        expected = model(image, 2)
        for form in (fused, whole, accelerate(fused)):
            torch.testing.assert_close(form(image), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [2, "5/2"])
def test_fused_it_is_the_same(scale: Any) -> None:
    model, picture = network("turns-and-negatives"), torch.rand(1, 3, 12, 14)
    with torch.no_grad():
        torch.testing.assert_close(polyres.fuse(model, scale)(picture), model(picture, scale))


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "muon"])
@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_training_keeps_the_form(tmp_path: Path, symmetry: Symmetry, optimiser: str) -> None:
    save_pictures(tmp_path)
    changes = {
        "model": parts(symmetry),
        "steps": 6,
        "optimiser": {"name": optimiser, "lr": 1e-2, "warmup": 0},
        "precision": "float32",  # in bfloat16 the bias of the last block may cancel to the bit too
    }
    begun = initial_model(config(tmp_path, equivariant=symmetry, **changes))
    before = copy.deepcopy(begun.state_dict())
    trained = run(config(tmp_path, equivariant=symmetry, **changes))
    assert distance_from_symmetric(trained, symmetry) < 1e-5
    still = {key for key, value in trained.state_dict().items() if torch.equal(before[key], value)}
    # The last bias is the same for a feature and its negative, and the head takes their difference.
    assert still == ({"encoder.tail.bias"} if "negatives" in symmetry else set())
    untied = run(config(tmp_path, output=str(tmp_path / "untied"), **changes))
    assert distance_from_symmetric(untied, symmetry) > 1e-2


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_training_in_bfloat16_keeps_the_form(tmp_path: Path, symmetry: Symmetry) -> None:
    save_pictures(tmp_path)
    optimiser = {"name": "muon", "lr": 1e-2, "warmup": 0}
    changes = {"model": parts(symmetry), "steps": 6, "optimiser": optimiser, "precision": "bfloat16"}
    trained = run(config(tmp_path, equivariant=symmetry, **changes))
    assert distance_from_symmetric(trained, symmetry) < 1e-5
    untied = run(config(tmp_path, output=str(tmp_path / "untied"), **changes))
    assert distance_from_symmetric(untied, symmetry) > 1e-2


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_momentum_is_kept_of_free_values_alone(tmp_path: Path, symmetry: Symmetry) -> None:
    save_pictures(tmp_path)
    settings = config(tmp_path, model=parts(symmetry), equivariant=symmetry, optimiser={"name": "muon"})
    state = begin(initial_model(settings), settings)
    kernels = tied_kernels(state.model.encoder, symmetry)
    assert kernels
    for kernel in kernels:
        kernel.grad = torch.ones_like(kernel)
    state.optimiser.step()
    ties = {"flips": 4, "flips-and-negatives": 8, "turns": 8, "turns-and-negatives": 16}[symmetry]
    assert {k.numel() / state.optimiser.state[k]["momentum"].numel() for k in kernels} == {ties}


def test_it_begins_as_strong_as_any_other(tmp_path: Path) -> None:
    save_pictures(tmp_path)
    tied, free = (
        initial_model(config(tmp_path, model=parts("turns"), equivariant=symmetry))
        for symmetry in ("turns", None)
    )
    for one, other in zip(tied.encoder.parameters(), free.encoder.parameters(), strict=True):
        torch.testing.assert_close(one.norm(), other.norm())


def test_a_resumed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    save_pictures(tmp_path)
    changes = {"model": parts("turns"), "equivariant": "turns", "save_every": 2}
    whole = run(config(tmp_path, steps=4, **changes))
    half = tmp_path / "half"
    stop = StopAfter(2)
    with pytest.raises(KeyboardInterrupt):
        run(config(tmp_path, steps=4, output=str(half), **changes), watch=stop)
    resumed = run(config(tmp_path, steps=4, output=str(half), **changes), resume=True)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


class StopAfter:
    """Ctrl-C after so many steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, report: Any, _: Any) -> None:
        if report.step == self.steps:
            raise KeyboardInterrupt


def test_it_goes_on_from_its_own_file_and_grows(tmp_path: Path) -> None:
    save_pictures(tmp_path)
    changes = {"equivariant": "turns-and-negatives", "steps": 2}
    small = parts("turns-and-negatives")
    run(config(tmp_path, model=small, **changes))
    file = tmp_path / "out" / "model.safetensors"
    went_on = initial_model(config(tmp_path, model=small, initial=str(file), **changes))
    deeper = parts("turns-and-negatives", blocks=3)
    initial = {"encoder": str(file), "upsampler": str(file), "deepen": True}
    grown = initial_model(config(tmp_path, model=deeper, initial=initial, **changes))
    picture = torch.rand(1, 3, 8, 9)
    with torch.no_grad():
        torch.testing.assert_close(grown.eval()(picture, 2), went_on.eval()(picture, 2))
    assert distance_from_symmetric(grown, "turns-and-negatives") < 1e-5


def test_what_a_file_lost_of_the_form_is_brought_back() -> None:
    model = network("turns-and-negatives")
    encoder = model.encoder
    with torch.no_grad():
        for weight in encoder.parameters():
            weight *= 1 + 1e-4 * torch.randn_like(weight)
    assert distance_from_symmetric(model, "turns-and-negatives") > 1e-5
    before = copy.deepcopy(encoder.state_dict())
    begin_equivariant(encoder, "turns-and-negatives", set())
    assert distance_from_symmetric(model, "turns-and-negatives") < 1e-6
    for key, value in encoder.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=1e-3, atol=1e-3)


def test_a_file_of_another_training_is_refused(tmp_path: Path) -> None:
    save_pictures(tmp_path)
    run(config(tmp_path, model=parts("turns"), steps=1))
    file = str(tmp_path / "out" / "model.safetensors")
    with pytest.raises(ConfigError, match=r"head\.weight of the file to begin from was trained without it"):
        initial_model(config(tmp_path, model=parts("turns"), equivariant="turns", initial=file))


def test_encoders_that_cannot_be_are_refused() -> None:
    swinir = polyres.ENCODERS.make("swinir-light", **polyres.ENCODERS["swinir-light"].tiny)
    with pytest.raises(ConfigError, match="encoders of plain convolutions"):
        tied_weights(swinir, "turns")
    narrow = polyres.ENCODERS.make("edsr-baseline", channels=8, blocks=1)
    with pytest.raises(ConfigError, match=r"multiples of 16.*head\.weight"):
        tied_weights(narrow, "turns-and-negatives")
    recalibrated = polyres.ENCODERS.make("edsr-baseline", channels=8, blocks=1)
    recalibrate(recalibrated, select=lambda _, part: isinstance(part, torch.nn.Conv2d))
    with pytest.raises(ConfigError, match="encoders of plain convolutions"):
        tied_weights(recalibrated, "turns")
    black = polyres.ENCODERS.make("edsr-baseline", channels=16, blocks=1)
    for symmetry in ("turns-and-negatives", "flips-and-negatives"):
        rest = symmetry.removesuffix("-and-negatives")
        with pytest.raises(ConfigError, match=rf"centre: 0\.5.* or write equivariant: {rest}$"):
            begin_equivariant(black, symmetry, black.state_dict().keys())


def test_who_sees_differences_alone_needs_no_centre() -> None:
    encoder = polyres.ENCODERS.make("edsr-baseline", channels=16, blocks=1, normalisation_equivariant=True)
    begin_equivariant(encoder, "turns-and-negatives", encoder.state_dict().keys())
    picture = torch.rand(1, 3, 9, 7)
    features, negative = encoder(picture), encoder(0.3 - picture)
    pairs = features.unflatten(1, (-1, 2, 8)).flip(2).reshape(features.shape)
    assert float(features.detach().abs().max()) > 1e-2
    assert torch.allclose(negative, pairs, atol=1e-6)
    with pytest.raises(ValueError, match="centre has no effect"):
        polyres.ENCODERS.make(
            "edsr-baseline", channels=16, blocks=1, centre=0.5, normalisation_equivariant=True
        )


@pytest.mark.parametrize("expansion", [1, 3])
def test_brighter_and_flatter_pictures_give_the_brighter_and_flatter_result(expansion: int) -> None:
    torch.manual_seed(0)
    options = {"channels": 8, "blocks": 2, "expansion": expansion, "normalisation_equivariant": True}
    upsampler = {
        "name": "igconv",
        "options": {"width": 8, "hidden_layers": 1, "base": "bilinear", "spread": 0.5},
    }
    parts = {"encoder": {"name": "edsr-baseline", "options": options}, "upsampler": upsampler}
    model = polyres.build(polyres.ModelConfig.model_validate(parts)).eval().double()
    model.upsampler.kernels.damp(10)
    picture = torch.rand(1, 3, 9, 11, dtype=torch.float64)
    stretch, lift = 0.4, torch.tensor([0.1, -0.3, 2.0], dtype=torch.float64).view(1, 3, 1, 1)
    for scale in (2, "5/2"):
        before = model(picture, scale).detach()
        assert torch.allclose(model(stretch * picture + lift, scale), stretch * before + lift, atol=1e-12)
        base = F.interpolate(picture, size=before.shape[2:], mode="bilinear")
        assert float((before - base).abs().max()) > 1e-3
    assert not any(name.endswith("bias") for name, _ in model.encoder.named_parameters())


def test_a_network_with_biases_goes_on_from_one_without(tmp_path: Path) -> None:
    save_pictures(tmp_path)
    without = parts("turns-and-negatives", centre=0, normalisation_equivariant=True)
    run(config(tmp_path, model=without, equivariant="turns-and-negatives", steps=2))
    file = tmp_path / "out" / "model.safetensors"
    before = polyres.load(file).eval()
    before.encoder.get_submodule("head").weight.data += 0.3  # which that network does not see
    polyres.save(before, file)
    settings = config(
        tmp_path,
        model=parts("turns-and-negatives"),
        equivariant="turns",
        initial=dict.fromkeys(("encoder", "upsampler"), str(file)),
        output=tmp_path / "on",
        steps=2,
    )
    begun = initial_model(settings).eval()
    picture, reach = torch.rand(1, 3, 16, 17), 2 * begun.encoder.context + 2
    with torch.no_grad():
        inner = (..., slice(reach, -reach), slice(reach, -reach))  # away from borders, which differ
        torch.testing.assert_close(begun(picture, 2)[inner], before(picture, 2)[inner])
    biases = [value for name, value in begun.encoder.named_parameters() if name.endswith("bias")]
    assert len(biases) == 6
    assert not any(bias.any() for bias in biases)
    run(settings)
    learned = polyres.load(tmp_path / "on" / "model.safetensors").encoder.state_dict()
    assert all(value.any() for name, value in learned.items() if name.endswith("bias"))


def test_kernels_that_sum_to_zero_see_no_level_at_the_borders_either() -> None:
    torch.manual_seed(0)
    conv = ZeroSumConv2d(2, 4, 5, bias=False).requires_grad_(False)
    assert float(conv(torch.tensor([0.7, 0.2]).view(1, 2, 1, 1).expand(1, 2, 6, 8)).abs().max()) < 1e-6
    picture = torch.rand(1, 2, 6, 8)
    kernels = conv.weight - conv.weight.mean((2, 3), keepdim=True)
    expected = F.conv2d(F.pad(picture, (2, 2, 2, 2), mode="replicate"), kernels)
    assert torch.allclose(conv(picture), expected, atol=1e-6)


def test_encoders_that_do_more_than_convolve_are_found_out() -> None:
    encoder = polyres.ENCODERS.make("edsr-baseline", channels=8, blocks=1)
    encoder.register_forward_hook(lambda _, __, features: features * torch.arange(8.0).view(1, -1, 1, 1))
    with pytest.raises(ConfigError, match="treats such pictures differently"):
        begin_equivariant(encoder, "turns", encoder.state_dict().keys())


@pytest.mark.parametrize("name", ["edsr", "rdn"])
def test_other_encoders_can_be(name: str) -> None:
    options = {
        "edsr": {"channels": 16, "blocks": 2, "residual_scale": 0.1},
        "rdn": {"channels": 16, "growth": 8},
    }
    tiny = {**polyres.ENCODERS[name].tiny, **options[name]}
    encoder = polyres.ENCODERS.make(name, **tiny)
    begin_equivariant(encoder, "turns", encoder.state_dict().keys())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"equivariant": "turns", "sharding": "fsdp2"}, "not with sharding"),
        ({"equivariant": "turns", "optimiser": {"name": "Rprop"}}, "adam, adamw, muon"),
        ({"equivariant": "mirrors"}, "turns-and-negatives"),
    ],
)
def test_bad_run_files_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)


def test_heads_that_cannot_be_are_refused() -> None:
    for options in ({"base": "sample"}, {"in_channels": 12}):
        with pytest.raises(ConfigError, match="groups of 8"):
            polyres.UPSAMPLERS.make("igconv", **{"in_channels": 16, **options, "equivariant": "turns"})


def test_without_it_nothing_changes(tmp_path: Path) -> None:
    save_pictures(tmp_path)
    plain = initial_model(config(tmp_path, model=MODEL))
    torch.manual_seed(0)
    torch.testing.assert_close(plain.state_dict(), polyres.build(plain.config).state_dict())
