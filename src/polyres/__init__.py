"""polyres: single-image super-resolution, one network for every scale.

>>> import polyres
>>> model = polyres.load("default")
>>> enlarged = model(image, "5/2")  # image: (N, 3, H, W) float in [0, 1]
>>> fused = polyres.fuse(model, 2)  # a plain module for one scale
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from polyres._version import __version__
from polyres.errors import PolyresError
from polyres.scale import Scale

if TYPE_CHECKING:
    from polyres.deploy import FusedModel, fuse
    from polyres.encoders import ENCODERS, Encoder
    from polyres.evaluation import Report, evaluate
    from polyres.model import ModelConfig, PartConfig, SRModel, build
    from polyres.pictures import Picture, read_picture, write_picture
    from polyres.training import train
    from polyres.upsamplers import UPSAMPLERS, Upsampler
    from polyres.upscale import Upscaler
    from polyres.weights import ModelCard, load, save

__all__ = [
    "ENCODERS",
    "UPSAMPLERS",
    "Encoder",
    "FusedModel",
    "ModelCard",
    "ModelConfig",
    "PartConfig",
    "Picture",
    "PolyresError",
    "Report",
    "SRModel",
    "Scale",
    "Upsampler",
    "Upscaler",
    "__version__",
    "build",
    "evaluate",
    "fuse",
    "load",
    "read_picture",
    "save",
    "train",
    "write_picture",
]

#: Where the public names live. They are fetched on first use, so that ``import polyres`` loads no torch.
_ROOMS = {
    "ENCODERS": "encoders",
    "Encoder": "encoders",
    "FusedModel": "deploy",
    "ModelCard": "weights",
    "ModelConfig": "model",
    "PartConfig": "model",
    "Picture": "pictures",
    "Report": "evaluation",
    "SRModel": "model",
    "UPSAMPLERS": "upsamplers",
    "Upsampler": "upsamplers",
    "Upscaler": "upscale",
    "build": "model",
    "evaluate": "evaluation",
    "fuse": "deploy",
    "load": "weights",
    "read_picture": "pictures",
    "save": "weights",
    "train": "training",
    "write_picture": "pictures",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'polyres' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"polyres.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
