"""``polyres doctor``: what works here, what does not, and what to do about it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from polyres.pictures import Pixels

#: Modules that are not needed by everybody: what for, and the extra that installs them.
OPTIONAL = {
    "imagecodecs": ("16-bit colour and float pictures, JPEG XL", "depth"),
    "tifffile": ("16-bit and float TIFF, and TIFF written row by row", "depth"),
    "onnxscript": ("polyres export, and engines other than torch", "export"),
    "onnxruntime": ("the engine onnxruntime, and checks of exported files", "export"),
    "openvino": ("the engine openvino", "openvino"),
}

#: Memory below which pictures of common cameras are slow, in bytes.
LITTLE = 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        subject: what was looked at.
        state: ``"bad"`` if polyres does not work properly for it, ``"note"`` if something is missing or slow.
        told: what was found.
        remedy: what to do about it; empty if nothing is to be done.
    """

    subject: str
    state: Literal["good", "note", "bad"]
    told: str
    remedy: str = ""


def doctor() -> None:
    """Look at the environment, engines, codecs, memory and the bundled model; say what to do where something is amiss.

    Exit status: 0, or 1 if polyres does not work properly here.
    """
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    marks = {"good": "[green]good[/]", "note": "[yellow]note[/]", "bad": "[red]bad [/]"}
    is_bad = False
    for finding in findings():
        console.print(f"{marks[finding.state]}  {escape(f'{finding.subject}: {finding.told}')}")
        if finding.remedy:
            console.print(f"      {escape(finding.remedy)}")
        is_bad = is_bad or finding.state == "bad"
    if is_bad:
        raise typer.Exit(1)


def findings() -> Iterator[Finding]:
    """All findings; a check that fails itself is one."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _environment,
        _device,
        _memory,
        _codecs,
        _extras,
        _cache,
        _model,
    )
    for check in checks:
        try:
            yield from check()
        except Exception as error:  # whatever is broken here is what the person wants to know
            subject = check.__name__.strip("_")
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            yield Finding(
                subject,
                "bad",
                f"could not be looked at: {reason}",
                "install polyres anew in a fresh environment",
            )


def _environment() -> Iterator[Finding]:
    from polyres._version import __version__

    packages = ", ".join(
        f"{name} {_version_of(name)}" for name in ("torch", "numpy", "pillow", "safetensors")
    )
    yield Finding(
        "environment",
        "good",
        f"polyres {__version__}, Python {platform.python_version()} on {platform.platform(terse=True)}; {packages}",
    )
    if sys.maxsize < 2**32:
        yield Finding("environment", "bad", "this Python has 32 bits", "install a Python of 64 bits")


def _device() -> Iterator[Finding]:
    import torch

    from polyres.deploy.devices import default_device, default_dtype, describe
    from polyres.layers.native import has_narrow_products, kernels, why_none

    device = default_device()
    precision = str(default_dtype(device)).removeprefix("torch.")
    if device.type == "cpu" and has_narrow_products() and default_dtype(device) == torch.float32:
        precision += ", bfloat16 products in networks of 3x3 convolutions"
    yield Finding("device", "good", f"{device}, {precision}: {describe(device)}")
    if device.type == "cpu" and torch.version.cuda is not None:
        yield Finding(
            "device",
            "note",
            f"this torch is made for CUDA {torch.version.cuda}, but it finds no GPU",
            "install a driver, or the smaller torch for CPUs from https://download.pytorch.org/whl/cpu",
        )
    if device.type == "cpu" and kernels() is None:
        yield Finding(
            "native kernels", "note", why_none(), "install a C compiler (cc) to run KRGN several times faster"
        )


def _memory() -> Iterator[Finding]:
    from polyres.deploy.devices import default_device
    from polyres.upscale.memory import free_memory, working_memory

    device = default_device()
    free, planned = free_memory(device), working_memory(device)
    told = f"{free / 1e9:.1f} GB free on {device}; tiles are planned with {planned / 1e9:.2f} GB"
    little = free < LITTLE
    remedy = "close other programs; pictures are made in small tiles until then" if little else ""
    yield Finding("memory", "note" if little else "good", told, remedy)


def _codecs() -> Iterator[Finding]:
    """Each format, written and read."""
    import io

    import numpy as np

    from polyres.errors import PolyresError
    from polyres.pictures import FORMATS, Picture, decode_picture, encode_picture

    picture, works = Picture(np.full((16, 16, 3), 99, np.uint8)), []
    for entry in FORMATS.values():
        stream = io.BytesIO()
        try:
            encode_picture(picture, stream, entry)
            stream.seek(0)
            decode_picture(stream, entry.name)
            works.append(entry.name)
        except PolyresError as error:
            remedy = "" if "pip install" in str(error) else "pip install --upgrade pillow"
            yield Finding(f"format {entry.name}", "note", str(error), remedy)
    yield Finding("formats", "good" if works else "bad", f"{', '.join(works)} are written and read")


def _extras() -> Iterator[Finding]:
    for module, (purpose, extra) in OPTIONAL.items():
        if find_spec(module) is None:
            yield Finding(
                module, "note", f"not installed; it is for {purpose}", f"pip install 'polyres[{extra}]'"
            )
            continue
        try:
            __import__(module)
            yield Finding(module, "good", f"{_version_of(module)}, for {purpose}")
        except Exception as error:  # a package that is there and broken
            yield Finding(
                module, "bad", f"installed, but broken: {error}", f"pip install --force-reinstall {module}"
            )


def _version_of(module: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow, and not every command needs it

    try:
        return version(module)
    except PackageNotFoundError:
        return "there"


def _cache() -> Iterator[Finding]:
    import os

    from polyres.layers.native.compiling import cache_folder

    folder = cache_folder()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(there, os.W_OK):
        yield Finding(
            "cache",
            "note",
            f"{folder} cannot be written, so engines are tried and kernels compiled at every start",
            "make it writable, or set XDG_CACHE_HOME to a folder that is",
        )
    else:
        yield Finding("cache", "good", str(folder))


def _model() -> Iterator[Finding]:
    """The bundled model enlarges a picture of known content, better than bicubic interpolation."""
    import numpy as np

    from polyres.pictures import Picture, resample
    from polyres.upscale import Upscaler
    from polyres.weights import load

    whole = _drawing()
    small = resample(whole, 48, 48, sharp=False)
    made = Upscaler(load("default"))(Picture(small), scale=2).pixels
    off, bicubic = (
        float(np.square(values.astype(float) - whole).mean())
        for values in (made, resample(small, 96, 96, sharp=False))
    )
    if off < bicubic:
        yield Finding(
            "bundled model", "good", f"its error is {off / bicubic:.2f} of bicubic's on a test picture"
        )
    else:
        yield Finding(
            "bundled model",
            "bad",
            f"its error is {off / bicubic:.2f} of bicubic's on a test picture; expected less than 1",
            "its file or torch is damaged: pip install --force-reinstall polyres",
        )


def _drawing() -> Pixels:
    """Rings and slanted edges, (96, 96, 3) uint8."""
    import numpy as np

    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    rings = np.hypot(x, y) % 0.4 < 0.2
    edges = (x + 0.37 * y) % 0.5 < 0.25
    planes = np.stack((rings, edges, rings ^ edges), axis=2)
    drawn: Pixels = np.where(planes, np.uint8(220), np.uint8(40))
    return drawn
