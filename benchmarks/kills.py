"""Kill a small training run with SIGKILL at random moments and resume it, again and again.

    python benchmarks/kills.py 100

Every kill falls after the first checkpoint of its run, anywhere up to the end, and is followed by a resume. After each,
checkpoint and model file must be readable and no more than one interval of steps lost; a run that came to its end
through any number of kills must hold the same weights, averages and optimiser, to the bit, and have logged the same
losses, as one that was never stopped. Exits with 1 otherwise. Needs a system with fork: each attempt is a process of
its own that has only what lies on disk, and is spared the seconds that loading torch takes.
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
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded

import numpy as np
import torch
import torch._dynamo  # imported before the forks, as optimisers load it, not in each; tensorboard alike
import torch.utils.tensorboard
from PIL import Image

from polyres.training import RunConfig, run
from polyres.training.checkpoint import has_checkpoints, load_checkpoint
from polyres.weights import load

INTERVAL = 3
STEPS = 60


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
    sound = result["resumes"] == result["kills"] and result["most_lost"] <= INTERVAL
    return 0 if sound and not result["unlike"] + result["failed"] + result["unreadable"] else 1


def trial(folder: Path, kills: int) -> dict[str, int]:
    """Kill ``kills`` times over as many runs as it takes; the last of them is let to its end."""
    save_pictures(folder / "pictures")
    whole, length = uninterrupted(config(folder, "whole"))
    names = ("kills", "resumes", "finished", "unlike", "failed", "unreadable", "most_lost")
    counts = dict.fromkeys(names, 0)
    settings = config(folder, "run-0")
    while counts["kills"] < kills or has_checkpoints(settings.output):
        counts["resumes"] += has_checkpoints(settings.output)
        last = counts["kills"] == kills
        status = attempt(settings, None if last else random.uniform(0, length))
        if status is None:
            counts["kills"] += 1
            unreadable, lost = damage(settings.output)
            counts["unreadable"] += unreadable
            counts["most_lost"] = max(counts["most_lost"], lost)
        else:
            counts["failed"] += status != 0
            counts["unlike"] += not alike(outcome(settings.output), whole)
            counts["finished"] += 1
            settings = config(folder, f"run-{counts['finished']}")
    return counts


def save_pictures(folder: Path) -> None:
    """Two pictures of noise."""
    folder.mkdir()
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 80, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")


def config(folder: Path, output: str) -> RunConfig:
    """The smallest run that has all that a resume must bring back: averages, several scales, micro-batches."""
    return RunConfig.model_validate(
        {
            "model": {
                "encoder": {"name": "edsr", "options": {"channels": 8, "blocks": 1, "residual_scale": 1.0}},
                "upsampler": {"name": "igconv", "options": {"width": 8, "hidden_layers": 1}},
            },
            "data": {"train": [str(folder / "pictures")], "patch": 16, "batch": 1, "scales": [2, 3, "3/2"]},
            "output": str(folder / output),
            "steps": STEPS,
            "accumulate": 2,
            "save_every": INTERVAL,
            "log_every": 1,
        }
    )


def uninterrupted(settings: RunConfig) -> tuple[dict[str, Any], float]:
    """What a run that nobody stops comes to, and the seconds from its first checkpoint to its end."""
    child = start(settings)
    wait_for_checkpoint(settings.output)
    began = time.monotonic()
    os.waitpid(child, 0)
    return outcome(settings.output), time.monotonic() - began


def attempt(settings: RunConfig, seconds: float | None) -> int | None:
    """Start or resume a run and kill it so long after it had a checkpoint; its status if it ended before, or if
    ``seconds`` is None."""
    child = start(settings)
    if seconds is not None:
        wait_for_checkpoint(settings.output)
        time.sleep(seconds)
    done, status = os.waitpid(child, 0 if seconds is None else os.WNOHANG)
    if done:
        return status
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status) else status  # it may have ended just before


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


def wait_for_checkpoint(output: Path) -> None:
    """Until ``output`` holds one; at once for a run that is resumed."""
    end = time.monotonic() + 300
    while not has_checkpoints(output):
        if time.monotonic() > end:
            raise TimeoutError(f"no checkpoint in {output} after 300 s")
        time.sleep(0.005)


def damage(output: Path) -> tuple[bool, int]:
    """Whether a file that the dead process left cannot be read, and how many logged steps are not in a checkpoint."""
    newest = max(output.glob("step-*.ckpt"))
    saved = int(load_checkpoint(output)["step"])  # an older one if the newest is damaged
    try:
        if (output / "model.safetensors").exists():  # written after the checkpoint
            load(output / "model.safetensors")
        readable = newest.name == f"step-{saved:08d}.ckpt"
    except Exception as error:
        print(f"after a kill: {error!r}", file=sys.stderr)
        readable = False
    return not readable, max(losses(output), default=0) - saved


def losses(output: Path) -> dict[int, str]:
    """The logged loss of each step, as text; a torn last line is left out."""
    lines = (output / "steps.csv").read_text().splitlines(keepends=True)
    cells = [line.split(",") for line in lines[1:] if line.endswith("\n")]
    return {int(cell[0]): cell[1] for cell in cells}


def outcome(output: Path) -> dict[str, Any]:
    """Weights, averages, optimiser and losses of a run."""
    saved = load_checkpoint(output)
    return {name: saved[name] for name in ("model", "average", "optimiser", "step")} | {
        "losses": losses(output)
    }


def alike(one: Any, other: Any) -> bool:
    """Whether two outcomes are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


if __name__ == "__main__":
    sys.exit(main())
