"""A result of a gigapixel in bounded memory: ``python benchmarks/gigapixel.py``.

A picture is enlarged four times into a TIFF in a fresh process, by the command a person would use; printed are its time
and the most memory that the process held. The network is a tiny one by default: what is shown is that the result never
lies in memory, and that does not depend on the network, whose windows are fitted to the memory in any case.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measured import peak_of

import polyres
from polyres.deploy.devices import describe


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        folder = Path(place)
        source, target, model = folder / "in.png", folder / "out.tif", folder / "tiny.safetensors"
        polyres.write_picture(smooth(arguments.side), source)
        if arguments.model is None:
            polyres.save(tiny(), model)
        began = time.monotonic()
        words = ("-s", "4", "-n", arguments.model or str(model), "-v", "--engine", "torch")
        peak = peak_of("upscale", str(source), "-o", str(target), *words)
        seconds = time.monotonic() - began
        made = arguments.side * 4
        print(describe(torch.device("cpu")))
        print(
            f"{made}x{made} = {made**2 / 1e9:.2f} gigapixels, {target.stat().st_size / 1e9:.2f} GB of TIFF, "
            f"{seconds:.0f} s, at most {peak / 1e9:.2f} GB of memory"
        )
        check(target, made)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--side", type=int, default=8000, help="pixels on a side of the picture, of 4 times that made"
    )
    parser.add_argument("--model", help="instead of a tiny one")
    parser.add_argument("--folder", type=Path, help="for the files, which take some gigabytes")
    return parser.parse_args()


def smooth(side: int) -> polyres.Picture:
    """A picture that compresses well, so that the disk is not what is measured."""
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    pixels = np.empty((side, side, 3), np.uint8)
    pixels[:, :, 0], pixels[:, :, 1], pixels[:, :, 2] = ramp, ramp[:, None], 128
    return polyres.Picture(pixels)


def tiny() -> polyres.SRModel:
    torch.manual_seed(0)
    config = {
        "encoder": {"name": "edsr", "options": {"channels": 4, "blocks": 1}},
        "upsampler": {"name": "igconv", "options": {"width": 8, "hidden_layers": 1, "base": "bilinear"}},
    }
    return polyres.build(polyres.ModelConfig.model_validate(config))


def check(target: Path, side: int) -> None:
    """The file has the size that it should have, and its last tile can be read."""
    import tifffile

    with tifffile.TiffFile(target) as file:
        page = file.pages.first
        assert (page.imagewidth, page.imagelength) == (side, side)
        assert file.is_bigtiff == (3 * side**2 > 2**32 - 2**25)
        decoded = next(iter(page.segments(maxworkers=1)))[0]
        assert decoded is not None


if __name__ == "__main__":
    main()
