"""Training: typed runs, a loop that reads from top to bottom, checkpoints that survive anything."""

from polyres.train.config import RunConfig, read_run
from polyres.train.loop import train
from polyres.train.run import run

__all__ = ["RunConfig", "read_run", "run", "train"]
