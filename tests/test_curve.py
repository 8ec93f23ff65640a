"""A run's curve: what is drawn, and that gains of tenths fill its axes though scales are many dB apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor

from polyres.training.curve import _COLOURS, _SIZE, draw_curve


def drawn(folder: Path, *lines: dict[str, object]) -> np.ndarray:
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    draw_curve(folder)
    with Image.open(folder / "curve.png") as image:
        return np.asarray(image.convert("RGB"))


def rows_of(panel: np.ndarray, colour: str) -> np.ndarray:
    """Rows below the names in which a curve of that colour is."""
    rows: np.ndarray = np.nonzero((panel == ImageColor.getrgb(colour)).all(2).any(1))[0]
    return rows[rows > 27]


def test_each_scale_is_drawn_by_what_it_gained(tmp_path: Path) -> None:
    validations = [
        {"step": step, "kind": "validation", "psnr_x2": 34 + gained, "psnr_x4": 28 + gained / 2}
        for step, gained in ((100, 0.0), (200, 0.1), (300, 0.2))
    ]
    whole = drawn(tmp_path, {"step": 50, "kind": "train", "loss": 0.5}, *validations)
    assert whole.shape == (2 * _SIZE[1], _SIZE[0], 3)
    below = whole[_SIZE[1] :]
    first, second = (rows_of(below, colour) for colour in _COLOURS[:2])
    assert np.ptp(first) > 0.75 * _SIZE[1]
    assert 0.35 * _SIZE[1] < np.ptp(second) < 0.5 * _SIZE[1]


def test_a_scale_that_was_never_measured_is_left_out(tmp_path: Path) -> None:
    lost = {"step": 10, "kind": "validation", "psnr_x2": None, "psnr_x3": 30.0}
    below = drawn(tmp_path, {"step": 5, "kind": "train", "loss": None}, lost)[_SIZE[1] :]
    assert below.shape[0] == _SIZE[1]


def test_without_validation_there_is_the_loss_alone(tmp_path: Path) -> None:
    assert len(drawn(tmp_path, *({"step": s, "kind": "train", "loss": 1 / s} for s in (1, 2, 3)))) == _SIZE[1]
