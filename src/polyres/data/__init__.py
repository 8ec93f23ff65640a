"""Pictures to learn from and to measure on: MATLAB's resize, files, pairs, packs, and what tells good from bad."""

from polyres.data.checking import check
from polyres.data.degradations import DEGRADATIONS
from polyres.data.files import EXTENSIONS, list_pictures, read_rgb
from polyres.data.layouts import find_pairs
from polyres.data.pack import Pack
from polyres.data.packing import write_pack
from polyres.data.pairs import Pair, crop_to_fit
from polyres.data.resampling import KERNELS
from polyres.data.resize import resize
from polyres.data.sources import Source, open_sources
from polyres.data.verifying import recognise

__all__ = [
    "DEGRADATIONS",
    "EXTENSIONS",
    "KERNELS",
    "Pack",
    "Pair",
    "Source",
    "check",
    "crop_to_fit",
    "find_pairs",
    "list_pictures",
    "open_sources",
    "read_rgb",
    "recognise",
    "resize",
    "write_pack",
]
