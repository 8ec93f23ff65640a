"""Tiny pictures and runs that the tests of training share."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from polyres.training import RunConfig

MODEL = {
    "encoder": {"name": "edsr", "options": {"channels": 8, "blocks": 1, "residual_scale": 1.0}},
    "upsampler": {
        "name": "igconv",
        "options": {"width": 8, "hidden_layers": 1, "base": "bilinear", "spread": 0.5},
    },
}


def picture(height: int = 72, width: int = 80, seed: int = 0) -> np.ndarray:
    """Smooth shapes with edges: enough structure to learn from."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * a + y * b + c) > 0 for a, b, c in random.uniform(-0.5, 0.5, (3, 3))]
    return (np.stack(waves, axis=-1) * 200 + random.integers(0, 20, (1, 1, 3)) + 20).astype(np.uint8)


def save_pictures(folder: Path, count: int = 2) -> Path:
    """``count`` pictures in a new folder ``pictures``."""
    (folder / "pictures").mkdir()
    for seed in range(count):
        Image.fromarray(picture(seed=seed)).save(folder / "pictures" / f"{seed}.png")
    return folder / "pictures"


def content(folder: Path, **changes: object) -> dict[str, object]:
    """Keys of a run file on the pictures of ``folder``; ``data`` is laid over the data section."""
    data = {"train": [str(folder / "pictures")], "patch": 12, "batch": 2, "scales": [2, 3]}
    data.update(changes.pop("data", {}))  # type: ignore[arg-type]
    common = {"model": MODEL, "data": data, "output": str(folder / "out"), "steps": 4, "log_every": 1}
    return {**common, "optimiser": {"lr": 1e-3, "warmup": 2}, **changes}


def config(folder: Path, **changes: object) -> RunConfig:
    """The run of :func:`content`."""
    return RunConfig.model_validate(content(folder, **changes))


def two_processes(script: str, *words: str | Path) -> list[int]:
    """The exit statuses of two processes of one group that run ``script``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(
            [sys.executable, script, *map(str, words)],
            env={
                **os.environ,
                **common,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for child in children:
        sys.stderr.write(child.communicate(timeout=240)[1])  # shown where a test fails
    return [child.returncode for child in children]
