"""Profiling: every model at every scale, counted without values and then run in turns."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from polyres.deploy import FusedModel, accelerate, fuse
from polyres.deploy.cost import multiply_adds, parameters, peak_of_tensors, take_turns
from polyres.deploy.devices import describe
from polyres.errors import UsageError
from polyres.evaluation.models import placed
from polyres.evaluation.profiling import forms
from polyres.evaluation.profiling.results import Cost, Latency, Profile, Size
from polyres.layers.folding import fold
from polyres.model import SRModel
from polyres.scale import Scale, ScaleLike

#: What runs the network.
ENGINES = ("torch", "onnxruntime")
#: Height and width of the result that costs are quoted for.
OUTPUT = (720, 1280)


@dataclass(frozen=True)
class _Way:
    """One way to run one model at one scale."""

    form: str
    engine: str
    dtype: str
    run: forms.Form


def profile(
    models: Mapping[str, SRModel],
    scales: Iterable[ScaleLike],
    *,
    output: tuple[int, int] = OUTPUT,
    device: str | torch.device = "cpu",
    dtypes: Iterable[torch.dtype] = (torch.float32,),
    engines: Iterable[str] = ("torch",),
    runs: int = 5,
    warm_up: int = 1,
) -> Profile:
    """Sizes and costs of ``models``, which are left as they are.

    The picture given has ``output / scale`` pixels, rounded down, as papers count (426×240 for ×3 to 1280×720).
    Multiply-adds are counted without running anything. The ways to run a model at one scale take turns.

    Args:
        models: by the name that rows call them.
        scales: each is profiled.
        output: height and width of the result.
        device: where torch runs; ONNX Runtime stays on the CPU.
        dtypes: what torch's convolutions compute in.
        engines: of :data:`ENGINES`.
        runs: how often each way is timed; 0 leaves out time and memory.
        warm_up: rounds before that do not count.

    Raises:
        UsageError: an engine or device that is not known here, or no models or scales.
        ScaleError: a scale that a model cannot make.
        MissingExtraError: ONNX Runtime is asked for and not installed.
    """
    exact = list(dict.fromkeys(Scale.of(scale) for scale in scales))
    chosen, place = list(engines), _device(device)
    _check(models, exact, chosen, runs, warm_up)
    sizes: list[Size] = []
    costs: list[Cost] = []
    for name, model in models.items():
        plain = {scale: fuse(model, scale) for scale in exact}
        sizes.append(_size(name, model, plain))
        for network in plain.values():
            ways = list(_ways(model, network, place, list(dtypes), chosen))
            costs += _costs(name, model, network, ways, _low(output, network.scale), (runs, warm_up), place)
    return Profile(machine=describe(place), sizes=tuple(sizes), costs=tuple(costs))


def _costs(
    name: str,
    model: SRModel,
    plain: FusedModel,
    ways: list[_Way],
    low: tuple[int, int],
    repeats: tuple[int, int],
    device: torch.device,
) -> list[Cost]:
    """A row for each of ``ways`` to run one model at one scale."""
    counts = {form: _count(model, plain, form, low) for form in {way.form for way in ways}}
    image = torch.rand(1, model.encoder.in_channels, *low, device=device)
    latencies, peaks = _run(ways, image, *repeats)
    return [
        Cost(
            model=name,
            scale=str(plain.scale),
            form=way.form,
            engine=way.engine,
            dtype=way.dtype,
            low=low,
            high=plain.scale.output_size(*low),
            multiply_adds=counts[way.form],
            peak_bytes=peak,
            latency=latency,
        )
        for way, latency, peak in zip(ways, latencies, peaks, strict=True)
    ]


def _check(
    models: Mapping[str, SRModel], scales: list[Scale], engines: list[str], runs: int, warm_up: int
) -> None:
    if not models or not scales or not engines:
        raise UsageError("a profile needs at least one model, one scale and one engine")
    unknown = [engine for engine in engines if engine not in ENGINES]
    if unknown:
        raise UsageError(f"no engine is called '{unknown[0]}'; there are {', '.join(ENGINES)}")
    if runs < 0 or warm_up < 0:
        raise UsageError(f"runs and warm-up are counts from 0; got {runs} and {warm_up}")


def _device(name: str | torch.device) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"'{name}' is no device; expected cpu, cuda, cuda:1 or the like") from error


def _size(name: str, model: SRModel, plain: Mapping[Scale, FusedModel]) -> Size:
    return Size(
        model=name,
        training=parameters(model),
        fused={str(scale): parameters(network) for scale, network in plain.items()},
        bundle=parameters(fold(model.encoder)) + sum(parameters(each.upsampler) for each in plain.values()),
    )


def _low(output: tuple[int, int], scale: Scale) -> tuple[int, int]:
    return max(1, int(output[0] / scale.y)), max(1, int(output[1] / scale.x))


def _ways(
    model: SRModel, plain: FusedModel, device: torch.device, dtypes: list[torch.dtype], engines: list[str]
) -> Iterable[_Way]:
    """Every way to run the model at the scale of ``plain``."""
    scale = plain.scale
    if "onnxruntime" in engines:
        yield _Way("fused", "onnxruntime", "float32", forms.onnxruntime(copy.deepcopy(plain)))
    if "torch" not in engines:
        return
    on_device = placed(copy.deepcopy(model), device)
    made = {
        "dynamic": forms.dynamic(on_device, scale),
        "cached": forms.cached(on_device, scale),
        "fused": forms.no_grad(placed(copy.deepcopy(plain), device)),
    }
    native = accelerate(plain)
    if device.type == "cpu" and native is not plain:
        made["accelerated"] = forms.no_grad(placed(native, device))
    for dtype in dtypes:
        for form, run in made.items():
            name = str(dtype).removeprefix("torch.")
            yield _Way(form, "torch", name, forms.in_precision(run, device, dtype))


def _count(model: SRModel, plain: FusedModel, form: str, low: tuple[int, int]) -> int:
    """Multiply-adds of one picture, on tensors without values."""
    scale, nowhere = plain.scale, torch.device("meta")
    if form in ("fused", "accelerated"):
        run = forms.no_grad(copy.deepcopy(plain).to(nowhere))
    else:
        make = forms.dynamic if form == "dynamic" else forms.cached
        run = make(copy.deepcopy(model).to(nowhere), scale)
    with nowhere:
        image = torch.empty(1, model.encoder.in_channels, *low)
        if form == "cached":
            run(image)
        return multiply_adds(lambda: run(image))


def _run(
    ways: list[_Way], image: Tensor, runs: int, warm_up: int
) -> tuple[list[Latency | None], list[int | None]]:
    """Latency and peak memory of each way; all None without runs."""
    if not runs:
        return [None] * len(ways), [None] * len(ways)
    finish = torch.cuda.synchronize if image.device.type == "cuda" else _nothing
    calls = {str(number): _call(way, image) for number, way in enumerate(ways)}
    seconds = take_turns(calls, runs, warm_up, finish)
    # After the timed rounds, when whatever is kept between pictures has been made.
    peaks = [peak_of_tensors(_call(way, image)) if way.engine == "torch" else None for way in ways]
    return [Latency.of(times, warm_up) for times in seconds.values()], peaks


def _call(way: _Way, image: Tensor) -> Callable[[], object]:
    given = image if way.engine == "torch" else image.cpu()
    return lambda: way.run(given)


def _nothing() -> None:
    """What has to be waited for on a CPU."""
