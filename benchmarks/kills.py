"""Kill a small training run with SIGKILL at random moments and resume it, again and again.

    python benchmarks/kills.py 100

Each time the newest checkpoint must be readable, at most one interval of steps lost, and a run that came to its end
through any number of kills must hold the same weights, to the bit, as one that was never stopped. Exits with 1
otherwise. Needs a system with fork.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.tensorboard import SummaryWriter  # noqa: F401 - imported before the forks, not in each

from polyres.errors import CheckpointError
from polyres.training import RunConfig, run
from polyres.training.checkpoint import has_checkpoints, load_checkpoint

INTERVAL = 3
STEPS = 30


def config(folder: Path, output: str) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {
                "encoder": {"name": "edsr", "options": {"channels": 8, "blocks": 1, "residual_scale": 1.0}},
                "upsampler": {"name": "igconv", "options": {"width": 8, "hidden_layers": 1}},
            },
            "data": {"train": [str(folder / "pictures")], "patch": 12, "batch": 2, "scales": [2, 3, "3/2"]},
            "output": str(folder / output),
            "steps": STEPS,
            "accumulate": 2,
            "save_every": INTERVAL,
            "log_every": 1,
        }
    )


def start(settings: RunConfig) -> int:
    """The process number of a child that trains, resuming if there is anything to resume from."""
    child = os.fork()
    if child:
        return child
    try:
        run(settings, resume=has_checkpoints(settings.output))
        os._exit(0)
    except BaseException as error:
        print(f"child failed: {error!r}", file=sys.stderr)
        os._exit(1)


def reached(output: Path) -> int:
    """The last step that a run logged."""
    log = output / "steps.csv"
    lines = log.read_text().splitlines() if log.exists() else []
    return max((int(line.split(",")[0]) for line in lines if line.split(",")[0].isdigit()), default=0)


def saved(output: Path) -> int:
    """The step of the newest checkpoint; 0 if there is none yet."""
    try:
        return int(load_checkpoint(output)["step"])
    except CheckpointError:
        if has_checkpoints(output):
            raise
        return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int, nargs="?", default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.set_num_threads(1)
    random.seed(arguments.seed)
    folder = Path(tempfile.mkdtemp(prefix="polyres-kills-"))
    try:
        result = trial(folder, arguments.kills)
    finally:
        shutil.rmtree(folder)
    print(json.dumps(result))
    return 0 if not result["unlike"] and not result["failed"] and result["most_lost"] <= INTERVAL else 1


def trial(folder: Path, kills: int) -> dict[str, int]:
    (folder / "pictures").mkdir()
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 80, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{seed}.png")
    began = time.monotonic()
    os.waitpid(start(config(folder, "whole")), 0)
    length = time.monotonic() - began
    whole = load_checkpoint(folder / "whole")["model"]
    counts = {"kills": 0, "resumes": 0, "finished": 0, "unlike": 0, "failed": 0, "most_lost": 0}
    while counts["kills"] < kills or not counts["finished"]:
        settings = config(folder, f"run-{counts['finished']}")
        counts["resumes"] += has_checkpoints(settings.output)
        child = start(settings)
        if counts["kills"] < kills:
            time.sleep(random.uniform(0, length))
        done, status = os.waitpid(child, os.WNOHANG if counts["kills"] < kills else 0)
        if not done:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            counts["kills"] += 1
            lost = reached(settings.output) - saved(settings.output)
            counts["most_lost"] = max(counts["most_lost"], lost)
            continue
        counts["failed"] += status != 0
        counts["finished"] += 1
        made = load_checkpoint(settings.output)["model"]
        counts["unlike"] += not all(torch.equal(made[key], whole[key]) for key in whole)
    return counts


if __name__ == "__main__":
    sys.exit(main())
