"""Damaged picture files, and a process apart that reads them: what crashes or hangs there ends nothing but itself.

As a script: ``python tests/fuzzing.py --count 5000 --keep /tmp/bad`` reads that many files of each format.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polyres.errors import PolyresError
from polyres.pictures import FORMATS, Limits, Picture, decode_picture, encode_picture

#: Seconds that a file may take, and bytes that the process may grow to.
PATIENCE, MEMORY = 5.0, 1 << 30

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def seeds() -> dict[str, list[bytes]]:
    """Sound files of each format that is read: several kinds of pixels, with metadata."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[271], exif[274] = "Maker", 6
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><a tiff:Orientation='3'/></x:xmpmeta>"
    found: dict[str, list[bytes]] = collections.defaultdict(list)
    for name, target in FORMATS.items():
        for dtype in target.depths:
            for channels, alpha in ((1, False), (3, False), (3, target.alpha)):
                white = 255 if dtype == np.uint8 else 65535 if dtype == np.uint16 else 1
                noise = rng.random((24, 20, 4), dtype=np.float32).cumsum(0) % 1
                values = (noise * white).astype(dtype)
                picture = Picture(values[:, :, :channels].copy(), values[:, :, 3] if alpha else None)
                stream = io.BytesIO()
                whole = replace(
                    picture, icc_profile=b"p" * 99, exif=exif.tobytes(), xmp=xmp, iptc=b"\x1c\x02\x78\0\3abc"
                )
                encode_picture(whole, stream, target)
                found[name].append(stream.getvalue())
    found["gif"].append(_animated())
    found["ppm"].append(b"P6 20 24 255\n" + bytes(20 * 24 * 3))
    found |= _optional()
    return dict(found)


def _animated() -> bytes:
    stream = io.BytesIO()
    frames = [Image.new("P", (20, 24), index) for index in range(3)]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def _optional() -> dict[str, list[bytes]]:
    found = {}
    values = np.random.default_rng(1).integers(0, 255, (24, 20, 3), dtype=np.uint8)
    with contextlib.suppress(ImportError):
        import imagecodecs
        import pillow_jxl  # noqa: F401

        found["jxl"] = [
            imagecodecs.jpegxl_encode(values, lossless=True, usecontainer=True),
            imagecodecs.jpegxl_encode(values.astype(np.uint16) * 257, level=90),
        ]
    with contextlib.suppress(ImportError):
        import pillow_heif

        stream = io.BytesIO()
        pillow_heif.from_bytes("RGB", (20, 24), values.tobytes()).save(stream)
        found["heic"] = [stream.getvalue()]
    return found


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """``content`` with one to six damages; most of them near the beginning, where the structure is."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 7)):
        near = rng.random() < 0.6
        place = int(rng.integers(min(len(data), 200) if near else len(data))) if data else 0
        kind = rng.integers(6)
        if kind == 0:
            data[place : place + 1] = bytes([int(rng.integers(256))])
        elif kind == 1 and data:
            data[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            size = int(rng.choice([1, 2, 4]))
            order = "big" if rng.random() < 0.5 else "little"
            number = int(rng.choice(_NUMBERS)) % (1 << 8 * size)
            data[place : place + size] = number.to_bytes(size, order)
        elif kind == 3:
            del data[place : place + int(rng.integers(1, 40))]
        elif kind == 4:
            data[place:place] = data[place : place + int(rng.integers(1, 40))]
        elif rng.random() < 0.3:
            del data[place:]
    return bytes(data)


@dataclass(frozen=True)
class Outcome:
    """What became of one file: ``read``, ``refused``, or what should not be; and how long it took."""

    kind: str
    seconds: float
    detail: str = ""


class Reader:
    """A process apart that reads files, made anew when one ends it."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None

    def __call__(self, content: bytes) -> Outcome:
        """Read ``content`` there."""
        if self._process is None:
            self._start()
        started = time.monotonic()
        self._pipe.send(content)
        try:
            if not self._pipe.poll(PATIENCE):
                outcome = Outcome("hang", PATIENCE)
            else:
                kind, detail = self._pipe.recv()
                outcome = Outcome(kind, time.monotonic() - started, detail)
        except (EOFError, ConnectionError):
            outcome = Outcome("crash", time.monotonic() - started)
        if outcome.kind not in ("read", "refused"):
            self.close()
        return outcome

    def _start(self) -> None:
        self._pipe, far = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(far,), daemon=True)
        self._process.start()
        far.close()
        self._pipe.recv()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(pipe: Any) -> None:
    warnings.simplefilter("ignore")
    pipe.send("ready")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while True:
        try:
            content = pipe.recv()
        except EOFError:
            return
        try:
            decode_picture(io.BytesIO(content), "file", Limits())
            answer = "read", ""
        except PolyresError as error:
            answer = "refused", str(error)
        except BaseException as error:
            answer = "wrong error", repr(error)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        if grown > MEMORY:
            answer = "memory", f"{grown >> 20} MiB; {answer}"
        pipe.send(answer)


def files(count: int, names: Callable[[str], bool] = lambda name: True) -> Iterator[tuple[str, bytes]]:
    """``count`` damaged files of each format; the same ones every time."""
    for number, (name, sound) in enumerate(sorted(seeds().items())):
        if names(name):
            rng = np.random.default_rng(number)
            for index in range(count):
                yield name, mutated(sound[index % len(sound)], rng)


def main() -> None:
    """Read many damaged files and print what became of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000, help="files of each format")
    parser.add_argument("--keep", type=Path, help="folder for files that did what none should")
    arguments = parser.parse_args()
    reader, tally, slowest = Reader(), collections.Counter(), collections.Counter()
    for index, (name, content) in enumerate(files(arguments.count)):
        outcome = reader(content)
        tally[name, outcome.kind] += 1
        slowest[name] = max(slowest[name], outcome.seconds)
        if outcome.kind not in ("read", "refused"):
            print(f"{name} {index}: {outcome}", flush=True)  # noqa: T201
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                (arguments.keep / f"{index}-{outcome.kind}.{name}").write_bytes(content)
    for name in sorted(slowest):
        kinds = ", ".join(f"{kind} {n}" for (each, kind), n in sorted(tally.items()) if each == name)
        print(f"{name}: {kinds}; slowest {slowest[name]:.2f} s", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
