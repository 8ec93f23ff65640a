"""The choice of an engine: tried for two seconds on this machine, checked, and remembered."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from polyres._version import __version__
from polyres.deploy.accelerate import narrows
from polyres.deploy.devices import describe, has_fast_bfloat16
from polyres.deploy.fuse import FusedModel, fuse
from polyres.errors import MissingExtraError, PolyresError, UsageError, nearest
from polyres.files import write_file
from polyres.layers.native import count_fast
from polyres.layers.native.compiling import cache_folder
from polyres.model import SRModel
from polyres.pictures.picture import Pixels
from polyres.scale import Scale
from polyres.upscale.engine import Engine, TorchEngine
from polyres.upscale.foreign import (
    NEEDS,
    OnnxEngine,
    OpenVinoEngine,
    fingerprint,
    is_exported,
    is_installed,
)

#: What runs a network: one of the engines, or the fastest of those that are installed.
EngineName = Literal["auto", "torch", "onnxruntime", "openvino"]

#: Seconds that engines are timed for, all together; making them ready comes on top, once a machine and network.
BUDGET = 2.0

#: Largest difference from torch in float32, of 1, at which an engine counts as right.
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}

#: The same where products alone are bfloat16, in minimal filtering, which rounds the trial's white noise coarsely:
#: bundled models come to 4e-2 there, and to 0.001 dB on pictures (docs/convolutions.md).
NARROW_TOLERANCE = 6e-2

#: How much faster than torch another engine must be: less is noise, and torch needs no exported file.
GAIN = 1.1

#: Seconds that exporting a network takes on common machines, before another engine than torch can run it at a scale.
EXPORTING = 9.0

#: Share of torch's time that another engine is hoped to save before it has been tried.
HOPED = 1 / 3

_SIDE, _MOST_ROUNDS = 96, 30


@dataclass(frozen=True)
class Trial:
    """How one engine did.

    Attributes:
        engine: its name.
        precision: that it computed in.
        seconds: least time for one window; None if it did not come to that.
        difference: largest, from torch in float32.
        reason: why it is out of the question; None if it is not.
    """

    engine: str
    precision: str
    seconds: float | None = None
    difference: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Choice:
    """The engine to take, and how all of them did."""

    engine: str
    precision: str
    trials: tuple[Trial, ...]

    @property
    def saved(self) -> float:
        """Share of torch's least time that the chosen engine saves."""
        times = {(trial.engine, trial.precision): trial.seconds for trial in self.trials}
        plain = [time for (name, _), time in times.items() if name == "torch" and time]
        return 1 - (times.get((self.engine, self.precision)) or 0) / min(plain) if plain else 1.0

    def __str__(self) -> str:
        if not self.trials:
            return f"no other engine than {self.engine} is installed"
        told = [
            f"{trial.engine} {trial.precision} " + (trial.reason or f"{1000 * (trial.seconds or 0):.0f} ms")
            for trial in self.trials
        ]
        return "chosen by trial: " + ", ".join(told)


def make_engine(
    model: SRModel,
    scale: Scale,
    device: torch.device,
    dtype: torch.dtype,
    *,
    name: EngineName = "torch",
    fixed_dtype: bool = True,
    native: bool = True,
    folder: Path | None = None,
    pixels: float | None = None,
) -> tuple[Engine, str]:
    """An engine for ``model`` at ``scale``, and what a person may want to know of how it was chosen.

    Args:
        model: to be fused.
        scale: of the enlargement.
        device: where it runs; engines other than torch run on the CPU alone.
        dtype: what it computes in.
        name: of the engine; ``"auto"`` takes the fastest, and torch where no other works.
        fixed_dtype: whether ``dtype`` is what was asked for, and no other is tried.
        native: for torch, see :class:`TorchEngine`.
        folder: of what is remembered; by default the user's cache folder.
        pixels: of all pictures that are to come at ``scale``: with ``"auto"``, no other engine than torch is made
            ready unless so many win back what that costs. None where it is not known, and taken to be many.

    Raises:
        UsageError: an engine that does not exist, or not on ``device`` or in ``dtype``.
        MissingExtraError: an engine asked for by name that is not installed.
    """
    precision = _name(dtype)
    if name == "torch" or (name == "auto" and (device.type != "cpu" or precision == "float16")):
        return TorchEngine(fuse(model, scale), device, dtype, native), ""
    if device.type != "cpu":
        raise UsageError(f"the engine {name} runs on the CPU here, not on {device}; take --engine torch")
    if name != "auto":
        return made(fuse(model, scale), name, precision, native, folder), ""
    precisions = (precision,) if fixed_dtype else _precisions(model, native)
    if pixels is not None and len(_candidates(precisions)) > 1:
        plain = TorchEngine(fuse(model, scale), device, dtype, native)
        known = _remembered(_path(model, precisions, native, folder))
        if reason := _not_worth_it(plain, fuse(model, scale), known, pixels, folder):
            return plain, reason
    choice = choose(model, scale, precisions, native, folder)
    try:
        return made(fuse(model, scale), choice.engine, choice.precision, native, folder), str(choice)
    except (
        PolyresError
    ) as error:  # the choice was made at another scale, which may have been easier to export
        return TorchEngine(fuse(model, scale), device, dtype, native), f"{choice.engine} failed: {error}"


def check_engine(name: str) -> EngineName:
    """``name`` as an :data:`EngineName`.

    Raises:
        UsageError: there is no such engine.
    """
    known: tuple[EngineName, ...] = get_args(EngineName)
    for engine in known:
        if engine == name:
            return engine
    raise UsageError(f"an engine is one of {', '.join(known)}; got '{name}'.{nearest(name, known)}")


def made(fused: FusedModel, name: str, precision: str, native: bool, folder: Path | None = None) -> Engine:
    """The engine called ``name`` for ``fused`` on the CPU."""
    dtype = getattr(torch, precision)
    if name == "torch":
        return TorchEngine(fused, torch.device("cpu"), dtype, native)
    if not is_installed(name):
        raise MissingExtraError(f"the engine {name}", NEEDS[name][1])
    if name == "openvino":
        return OpenVinoEngine(fused, dtype, folder)
    if precision != "float32":
        raise UsageError(f"ONNX Runtime computes in float32 here, not in {precision}; take another engine")
    return OnnxEngine(fused, folder)


def choose(
    model: SRModel, scale: Scale, precisions: tuple[str, ...], native: bool = True, folder: Path | None = None
) -> Choice:
    """The fastest engine that is right, as remembered for this machine, these versions and this network, or tried."""
    path = _path(model, precisions, native, folder)
    remembered = _remembered(path)
    if remembered is not None:
        return remembered
    if len(_candidates(precisions)) == 1:
        return Choice(*_candidates(precisions)[0], ())
    choice = _tried(model, scale, precisions, native, path.parent)
    with suppress(PolyresError):  # a cache that cannot be written costs two seconds the next time
        write_file(path, json.dumps(asdict(choice), indent=1).encode())
    return choice


def _not_worth_it(
    plain: Engine, fused: FusedModel, known: Choice | None, pixels: float, folder: Path | None
) -> str:
    """Why torch does it where no other engine is ready: the work is done before one is. Empty if it is worth it."""
    if known is not None and (known.engine == "torch" or is_exported(fused, folder)):
        return ""
    share, cost = (HOPED, EXPORTING + BUDGET) if known is None else (known.saved, EXPORTING)
    work = _seconds(plain) * pixels / _SIDE**2
    if share * work > cost:
        return ""
    return f"about {work:.0f} s of work, too little to make another engine ready, which takes {cost:.0f} s"


def _seconds(engine: Engine) -> float:
    """The least time of ``engine`` for one window of :data:`_SIDE`, of two; one before warms it up."""
    noise = _noise()
    engine(noise)
    times = []
    for _ in range(2):
        began = time.perf_counter()
        engine(noise)
        times.append(time.perf_counter() - began)
    return min(times)


def _noise() -> Pixels:
    return np.random.default_rng(0).random((1, _SIDE, _SIDE, 3), np.float32)


def _tried(model: SRModel, scale: Scale, precisions: tuple[str, ...], native: bool, folder: Path) -> Choice:
    noise = _noise()
    expected = made(fuse(model, scale), "torch", "float32", False, folder)(noise)
    out: list[Trial] = []
    calls: dict[tuple[str, str], tuple[Callable[[], Any], float]] = {}
    for name, precision in _candidates(precisions):
        try:
            engine = made(fuse(model, scale), name, precision, native, folder)
            difference = float((engine(noise) - expected).abs().max())
        except Exception as error:  # other people's engines raise what they like, and torch always works
            out.append(Trial(name, precision, reason=f"failed: {str(error).splitlines()[0][:200]}"))
            continue
        narrow = (name, precision) == ("torch", "bfloat16") and native and narrows(model.encoder)
        if not difference <= (NARROW_TOLERANCE if narrow else TOLERANCE[precision]):
            out.append(Trial(name, precision, None, difference, f"is off by {difference:.0e}"))
            continue
        calls[name, precision] = partial(engine, noise), difference
    seconds = _least({key: call for key, (call, _) in calls.items()})
    trials = [Trial(*key, seconds[key], calls[key][1]) for key in calls]
    return Choice(*_best(trials, precisions), (*trials, *out))


def _least(calls: dict[tuple[str, str], Callable[[], Any]]) -> dict[tuple[str, str], float]:
    """The least seconds of each; they take turns, so that a busy machine slows all of them alike."""
    least = dict.fromkeys(calls, float("inf"))
    end = time.perf_counter() + BUDGET
    for _ in range(_MOST_ROUNDS):
        for key, call in calls.items():
            began = time.perf_counter()
            call()
            least[key] = min(least[key], time.perf_counter() - began)
        if time.perf_counter() > end:
            break
    return least


def _best(trials: list[Trial], precisions: tuple[str, ...]) -> tuple[str, str]:
    """Engine and precision of the fastest; torch's unless another is clearly faster."""
    usable = {(t.engine, t.precision): t.seconds for t in trials if t.seconds is not None}
    ranked = sorted(usable, key=lambda key: usable[key] * (1 if key[0] == "torch" else GAIN))
    return ranked[0] if ranked else ("torch", precisions[0])


def _candidates(precisions: tuple[str, ...]) -> list[tuple[str, str]]:
    engines = {
        "torch": ("float32", "bfloat16"),
        "onnxruntime": ("float32",),
        "openvino": ("float32", "bfloat16"),
    }
    return [
        (name, precision)
        for name, able in engines.items()
        if name == "torch" or is_installed(name)
        for precision in able
        if precision in precisions
    ]


def _precisions(model: SRModel, native: bool) -> tuple[str, ...]:
    """Those that are worth a trial: bfloat16 is emulated, and slow, where there is no hardware for it."""
    fast = has_fast_bfloat16(torch.device("cpu")) or (native and narrows(model.encoder))
    return ("float32", "bfloat16") if fast else ("float32",)


def _path(model: SRModel, precisions: tuple[str, ...], native: bool, folder: Path | None) -> Path:
    """The file that remembers a choice, named by what it holds for."""
    versions = []
    for package in ("onnxruntime", "onnxscript", "openvino"):
        with suppress(PackageNotFoundError):
            versions.append(f"{package} {version(package)}")
    # Native forms decide how fast torch is: a compiler that appears, or leaves, makes another machine of this one.
    fast = f"native {count_fast(model.encoder)}" if native else "not native"
    parts = (
        describe(torch.device("cpu")),
        f"polyres {__version__}",
        *versions,
        *precisions,
        fast,
        fingerprint(model),
    )
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    return (folder or cache_folder()) / f"engine-{key}.json"


def _remembered(path: Path) -> Choice | None:
    """The choice in the file at ``path``; None if there is none, or it cannot be understood."""
    try:
        content = json.loads(path.read_text())
        trials = tuple(Trial(**trial) for trial in content["trials"])
        choice = Choice(content["engine"], content["precision"], trials)
        return choice if choice.engine in get_args(EngineName) and choice.precision in TOLERANCE else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
