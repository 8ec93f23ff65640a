"""Released weights give the released numbers: SMFANet and SMFANet+ of the checkpoints in shared/weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from polyres.data import find_pairs
from polyres.evaluation import evaluate
from polyres.evaluation.models import model_upscaler
from polyres.scale import Scale
from polyres.weights import load

#: The original code's rows in shared/data/README.md: PSNR and SSIM at x2, x3, x4.
ROWS = {
    ("SMFANet_plus", "Set5"): "38.185 .9611 34.665 .9292 32.511 .8985",
    ("SMFANet_plus", "Set14"): "33.916 .9207 30.568 .8461 28.866 .7872",
    ("SMFANet_plus", "BSD100"): "32.326 .9016 29.263 .8091 27.750 .7414",
    ("SMFANet", "Set5"): "38.08 .9607 34.42 .9274 32.25 .8956",
    ("SMFANet", "Set14"): "33.65 .9185 30.41 .8430 28.71 .7833",
}
CASES = [
    (network, group, scale, float(row.split()[2 * i]), float(row.split()[2 * i + 1]))
    for (network, group), row in ROWS.items()
    for i, scale in enumerate((2, 3, 4))
]
FAST = ("SMFANet_plus", "Set5", 4)


def checkpoint(shared: Path, network: str, scale: int) -> Path:
    path = shared / "weights" / f"{network}_DF2K_100w_x{scale}SR.pth"
    if not path.is_file():
        pytest.skip(f"no checkpoint {path}")
    return path


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("network", ["SMFANet", "SMFANet_plus"])
def test_outputs_equal_the_recorded_ones(network: str, scale: int, shared: Path) -> None:
    recorded = load_file(shared / "parity" / "open" / "real_ckpt_outputs.safetensors")
    model = load(checkpoint(shared, network, scale))
    with torch.no_grad():
        output = model(recorded["io/in.1x24x20"], scale)
    assert (output - recorded[f"io/out.{network}_DF2K_x{scale}"]).abs().max() <= 2e-5


@pytest.mark.parametrize(
    ("network", "group", "scale", "psnr", "ssim"),
    [pytest.param(*case, marks=() if case[:3] == FAST else pytest.mark.slow) for case in CASES],
)
def test_benchmark_numbers_equal_the_originals(
    network: str, group: str, scale: int, psnr: float, ssim: float, shared: Path
) -> None:
    model = load(checkpoint(shared, network, scale))
    pairs = find_pairs(shared / "data" / "bench" / group, [Scale.of(scale)])
    (mean,) = evaluate(model_upscaler(model), pairs, "paper-y").means()
    assert mean.count == {"Set5": 5, "Set14": 14, "BSD100": 100}[group]
    assert mean.psnr == pytest.approx(psnr, abs=0.01)
    assert mean.ssim == pytest.approx(ssim, abs=0.0002)
