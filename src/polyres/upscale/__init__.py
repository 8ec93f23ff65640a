"""Upscaling: picture in, picture out, at any size, in tiles that equal the whole."""

from polyres.upscale.planning import Plan, plan
from polyres.upscale.targets import Target
from polyres.upscale.upscaler import Tiling, Upscaler

__all__ = ["Plan", "Target", "Tiling", "Upscaler", "plan"]
