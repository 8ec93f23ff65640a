"""Deployment: models made plain, exported, and run."""

from polyres.deploy.accelerate import accelerate
from polyres.deploy.fuse import FusedModel, fuse

__all__ = ["FusedModel", "accelerate", "fuse"]
