"""Pictures to learn from and to measure on: MATLAB's resize, files, pairs and the layouts they come in."""

from polyres.data.files import EXTENSIONS, list_pictures, read_rgb
from polyres.data.layouts import find_pairs
from polyres.data.pairs import Pair, crop_to_fit
from polyres.data.resampling import KERNELS
from polyres.data.resize import resize

__all__ = [
    "EXTENSIONS",
    "KERNELS",
    "Pair",
    "crop_to_fit",
    "find_pairs",
    "list_pictures",
    "read_rgb",
    "resize",
]
