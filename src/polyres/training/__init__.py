"""Training: typed runs, a loop that reads from top to bottom, checkpoints that survive anything."""

from polyres.training.config import RunConfig
from polyres.training.loop import train
from polyres.training.reading import read_run
from polyres.training.run import run

__all__ = ["RunConfig", "read_run", "run", "train"]
