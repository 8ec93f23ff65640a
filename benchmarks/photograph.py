"""A photograph as cameras make them, enlarged: ``python benchmarks/photograph.py``.

A TIFF of 12 megapixels and 16 bits a colour, in a profile of Display P3's primaries and lying on its side (EXIF
orientation 6), is enlarged twice by the command a person would use. Printed are its time and the most memory that the
process held; profile, depth, orientation and colours of the result are checked, and a crop of it is written beside the
same crop by bicubic interpolation, to be looked at.
"""

from __future__ import annotations

import argparse
import struct
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from measured import peak_of
from PIL import Image, ImageCms

import polyres
from polyres.deploy.devices import describe
from polyres.pictures import Picture, Pixels, resample

#: Red, green and blue of Display P3, adapted to the white of profiles (D50).
PRIMARIES = {
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
}

#: Largest difference of the mean colour of picture and result, of 65535.
SHIFT = 65


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as place:
        source, target = Path(place) / "photo.tif", Path(place) / "photo_x2.tif"
        upright = photograph(arguments.pictures, arguments.width, arguments.height)
        write_on_its_side(upright, source)
        began = time.monotonic()
        words = ("-s", "2", "-v", "--engine", arguments.engine, "--device", "cpu")
        peak = peak_of("upscale", str(source), "-o", str(target), *words)
        seconds = time.monotonic() - began
        print(describe(torch.device("cpu")), f"{torch.get_num_threads()} threads")
        print(
            f"{arguments.width}x{arguments.height} to x2: {seconds:.0f} s, at most {peak / 1e9:.2f} GB of memory"
        )
        result = polyres.read_picture(target)
        check(upright, result)
        write_crops(upright, result, arguments.crop)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=3000)
    parser.add_argument("--height", type=int, default=4000)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--pictures", type=Path, default=Path("../shared/data/validation"))
    parser.add_argument("--crop", type=Path, default=Path("runs/photograph.png"))
    return parser.parse_args()


def photograph(folder: Path, width: int, height: int) -> Pixels:
    """(H, W, 3) uint16: the pictures of ``folder`` side by side, with the noise that 16 bits have room for."""
    random, result = np.random.default_rng(0), np.empty((height, width, 3), np.uint16)
    paths = sorted(folder.glob("*.webp"))
    for row, top in enumerate(range(0, height, 512)):
        for column, left in enumerate(range(0, width, 768)):
            with Image.open(paths[(5 * row + column) % len(paths)]) as image:
                values = np.asarray(image.convert("RGB").resize((768, 512)))
            part = values[: height - top, : width - left] + random.uniform(-0.5, 0.5)
            noisy = part + random.normal(0, 0.3, part.shape)
            result[top : top + 512, left : left + 768] = np.clip(np.rint(noisy * 257), 0, 65535)
    return result


def write_on_its_side(upright: Pixels, path: Path) -> None:
    """Write ``upright`` turned, with the orientation that turns it back."""
    import tifffile

    tifffile.imwrite(
        path,
        np.rot90(upright),
        photometric="rgb",
        compression="zlib",
        predictor=True,
        iccprofile=profile(),
        metadata=None,
        software=False,
        extratags=[(274, "H", 1, 6, True), (271, "s", 0, "a camera", True)],
    )


@cache
def profile() -> bytes:
    """sRGB's profile with other primaries; once, for it holds the time at which it was made."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", content, 128)
    for index in range(count):
        name, offset, _ = struct.unpack_from(">4sII", content, 132 + 12 * index)
        if name in PRIMARIES:
            struct.pack_into(">3i", content, offset + 8, *(round(65536 * value) for value in PRIMARIES[name]))
    return bytes(content)


def check(upright: Pixels, result: Picture) -> None:
    """Profile, depth, orientation, camera and colours are those of the picture."""
    exif = Image.Exif()
    exif.load(result.exif or b"")
    height, width = upright.shape[:2]
    small = result.pixels.reshape(height, 2, width, 2, 3).mean((1, 3))
    shift = np.abs((small - upright).mean((0, 1))).max()
    found = {
        "profile byte for byte": result.icc_profile == profile(),
        "16 bits": result.pixels.dtype == np.uint16,
        "upright, its size doubled": result.pixels.shape == (2 * height, 2 * width, 3)
        and exif.get(274, 1) == 1,
        "camera kept": exif.get(271) == "a camera",
        f"mean colour within {shift:.1f} of 65535": shift <= SHIFT,
        "as the picture looks": float(np.abs(small - upright).mean()) < 0.02 * 65535,
    }
    for name, holds in found.items():
        print(f"{'good' if holds else 'BAD '}  {name}")
    if not all(found.values()):
        raise SystemExit(1)


def write_crops(upright: Pixels, result: Picture, path: Path) -> None:
    """The middle of the result, and below it the same by bicubic interpolation."""
    height, width = (min(side, size // 2) for side, size in zip((240, 480), upright.shape[:2], strict=True))
    top, left = (upright.shape[0] - height) // 2, (upright.shape[1] - width) // 2
    ours = result.pixels[2 * top : 2 * (top + height), 2 * left : 2 * (left + width)]
    bicubic = resample(upright[top : top + height, left : left + width], 2 * height, 2 * width, sharp=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    polyres.write_picture(Picture(np.vstack((ours, bicubic)), icc_profile=profile()).at_depth(np.uint8), path)
    print(f"crop: {path}")


if __name__ == "__main__":
    main()
