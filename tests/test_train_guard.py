"""Numbers that are not finite: found in their step, kept out of the weights and the average."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import config, picture

from polyres.data.crops import Batch
from polyres.data.resize import resize
from polyres.errors import TrainingError
from polyres.model import build
from polyres.scale import Scale
from polyres.training.guard import Fault
from polyres.training.loop import begin, train
from polyres.training.saving import dump_batches
from polyres.training.state import StepReport, TrainingState


class Crops:
    """One crop, with a number that is not finite in the steps ``bad``."""

    def __init__(self, bad: tuple[int, ...] = ()) -> None:
        high = picture(24, 24)
        self._pair, self._bad = (resize(high, scale=0.5)[None], high[None]), bad

    def batch(self, step: int, micro: int) -> Batch:
        low, high = self._pair
        if step in self._bad:
            low = low.astype(np.float32)
            low[0, 0, 0, 0] = np.nan
        return Batch(low, high, Scale.of(2))


def trained(
    folder: Path, bad: tuple[int, ...] = (), poison: str | None = None, **changes: object
) -> tuple[TrainingState, list[StepReport], list[Fault]]:
    settings = config(folder, steps=6, save_every=2, **changes)
    torch.manual_seed(0)
    model = build(settings.model)
    state, reports, faults = begin(model, settings), [], []
    weight = model.encoder.tail.weight
    if poison == "gradient":
        weight.register_hook(lambda g: g * float("inf") if state.step == 3 else g)
    if poison == "weight":
        step = state.optimiser.step

        def poisoned() -> None:
            step()
            if state.step == 3:
                weight.data[0, 0, 0, 0] = float("inf")

        state.optimiser.step = poisoned
    train(model, Crops(bad), settings, lambda _, r: reports.append(r), state, on_fault=faults.append)
    return state, reports, faults


@pytest.mark.parametrize(
    ("bad", "poison", "where"),
    [
        ((3,), None, "a picture of the input"),
        ((), "gradient", "the gradient of encoder.tail.weight"),
        ((), "weight", "the weight encoder.tail.weight"),
    ],
)
def test_the_step_and_the_number_are_named_and_all_stays_finite(
    tmp_path: Path, bad: tuple[int, ...], poison: str | None, where: str
) -> None:
    state, reports, faults = trained(tmp_path, bad, poison)
    assert [(fault.step, fault.where) for fault in faults] == [(4, where)]
    assert [report.step for report in reports if report.fault] == [4]
    for model in (state.model, state.average):
        assert all(bool(p.isfinite().all()) for p in model.parameters())
    assert state.step == 6
    assert state.rejected == [4]


def test_a_skipped_step_changes_nothing(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []
    settings = config(tmp_path, steps=3)
    model = build(settings.model)
    train(model, Crops((1,)), settings, lambda s, _: seen.append(s.average.encoder.tail.weight.clone()))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_a_rollback_returns_to_the_weights_of_the_last_copy(tmp_path: Path) -> None:
    seen: dict[int, torch.Tensor] = {}
    settings = config(tmp_path, steps=4, save_every=2, guard={"action": "rollback"})
    model = build(settings.model)
    train(
        model,
        Crops((3,)),
        settings,
        lambda s, _: seen.update({s.step: s.model.encoder.tail.weight.detach().clone()}),
    )
    assert torch.equal(seen[4], seen[2])
    assert not torch.equal(seen[3], seen[2])


@pytest.mark.parametrize(("guard", "step"), [({"action": "stop"}, 2), ({"limit": 1}, 3), ({"limit": 0}, 2)])
def test_the_limit_stops_the_run(tmp_path: Path, guard: dict[str, object], step: int) -> None:
    with pytest.raises(TrainingError, match=f"step {step}: a picture of the input is not finite"):
        trained(tmp_path, bad=(1, 2, 3), guard=guard)


def test_rejected_batches_are_dumped(tmp_path: Path) -> None:
    batch = Crops().batch(0, 0)
    dump_batches(tmp_path, Fault(7, "the loss (nan)", [batch]), rank=1)
    dumped = np.load(tmp_path / "rejected" / "step-00000007-1.npz")
    assert str(dumped["where"]) == "the loss (nan)"
    assert str(dumped["scale_0"]) == "2"
    assert np.array_equal(dumped["low_0"], batch.low)
    assert np.array_equal(dumped["high_0"], batch.high)
