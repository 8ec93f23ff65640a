"""Pictures: files to and from pixels, and pixels to and from tensors.

The only place that knows of bit depth, transparency, colour profiles, orientation and file formats.
"""

from polyres.pictures.formats import FORMATS, SUFFIXES, Format, format_named, format_of
from polyres.pictures.handling import DEPTHS, Handling
from polyres.pictures.picture import Picture, Pixels, to_depth
from polyres.pictures.reading import Limits, decode_picture, picture_size, read_picture
from polyres.pictures.resample import resample
from polyres.pictures.stacks import Stack, read_stack, write_stack
from polyres.pictures.tensors import from_tensor, to_tensor
from polyres.pictures.transparency import bleed
from polyres.pictures.writing import QUALITY, encode_picture, left_out, write_picture

__all__ = [
    "DEPTHS",
    "FORMATS",
    "QUALITY",
    "SUFFIXES",
    "Format",
    "Handling",
    "Limits",
    "Picture",
    "Pixels",
    "Stack",
    "bleed",
    "decode_picture",
    "encode_picture",
    "format_named",
    "format_of",
    "from_tensor",
    "left_out",
    "picture_size",
    "read_picture",
    "read_stack",
    "resample",
    "to_depth",
    "to_tensor",
    "write_picture",
    "write_stack",
]
