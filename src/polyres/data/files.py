"""Picture files of a data set as arrays: which files count, and how they are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from polyres.errors import DataError, PictureError

#: Endings, in lower case, of the files that a data set is made of; everything else in its folders is ignored.
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"})

#: Pillow's names of the 8-bit kinds that mean the same pixels when read as RGB.
_MODES = frozenset({"1", "L", "P", "RGB"})


def list_pictures(folder: Path) -> list[Path]:
    """The picture files directly in ``folder``, by name; hidden files are left out.

    Raises:
        DataError: ``folder`` is not a folder.
    """
    if not folder.is_dir():
        raise DataError(f"'{folder}' is not a folder of pictures; give the path of an existing one")
    return sorted(p for p in folder.iterdir() if _is_picture(p))


def read_rgb(path: Path, stream: IO[bytes] | None = None) -> npt.NDArray[np.uint8]:
    """The picture at ``path`` as (H, W, 3) uint8; grey is repeated in the three channels.

    Args:
        path: the file; with ``stream`` only what messages call it.
        stream: the encoded picture where it does not lie in a file of its own.

    Raises:
        PictureError: missing, damaged, not a picture, or with transparency or more than 8 bits a channel.
    """
    with _opened(path, stream) as image:
        return np.array(image.convert("RGB"))


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) of the picture at ``path``, from its header alone.

    Raises:
        PictureError: as for :func:`read_rgb`, as far as the header tells.
    """
    with _opened(path, None) as image:
        return image.height, image.width


@contextmanager
def _opened(path: Path, stream: IO[bytes] | None) -> Iterator[Image.Image]:
    """The picture, not decoded yet; whatever goes wrong before the end of the block names ``path``."""
    try:
        with Image.open(path if stream is None else stream) as image:
            mode = f"{image.mode} with transparency" if "transparency" in image.info else image.mode
            # Pillow would read 16 bits a channel silently as 8; the raw mode of the encoded data tells.
            mode = next((f"16-bit {mode}" for tile in image.tile if ";16" in str(tile[-1])), mode)
            if mode not in _MODES:
                raise PictureError(
                    f"'{path}' is {mode}; 8-bit RGB or grey without transparency is needed: convert it first"
                )
            yield image
    except FileNotFoundError:
        raise PictureError(f"there is no picture at '{path}'") from None
    except UnidentifiedImageError:
        raise PictureError(f"'{path}' is not a picture that can be read, whatever its name says") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(f"'{path}' cannot be read: {error}") from error


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()
