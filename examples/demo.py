"""``make demo``: enlarge a real photograph with the bundled model and put the result beside bicubic."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from skimage import data

import polyres

SCALE = 3


def main() -> None:
    """Write ``demo/coffee_x3.png`` and ``demo/comparison.png`` and say where they are."""
    folder = Path(__file__).resolve().parents[1] / "demo"
    folder.mkdir(exist_ok=True)
    source, result, comparison = (folder / name for name in ("coffee.png", "coffee_x3.png", "comparison.png"))
    Image.fromarray(data.coffee()).save(source)  # a photograph that comes with scikit-image
    large = polyres.Upscaler(polyres.load("default"))(polyres.read_picture(source), scale=SCALE)
    polyres.write_picture(large, result)
    side_by_side(source, result).save(comparison)
    print(f"A photograph, enlarged {SCALE} times: {result}")
    print(f"Part of it, bicubic on the left and polyres on the right: {comparison}")


def side_by_side(small: Path, large: Path) -> Image.Image:
    """A part from the middle of the picture: bicubic on the left, the model's result on the right."""
    with Image.open(small) as picture, Image.open(large) as right:
        width, height = right.size
        left = picture.convert("RGB").resize(right.size, Image.Resampling.BICUBIC)
        box = (width // 3, height // 3, width // 3 + 480, height // 3 + 480)
        sheet = Image.new("RGB", (480 + 8 + 480, 480), "white")
        sheet.paste(left.crop(box), (0, 0))
        sheet.paste(right.convert("RGB").crop(box), (488, 0))
        return sheet


if __name__ == "__main__":
    main()
