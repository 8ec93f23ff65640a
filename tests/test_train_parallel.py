"""Several processes: the same gradients as one with the same crops, the same run, and no hang on an error."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from training_runs import MODEL, config, save_pictures, two_processes

from polyres.data.sources import open_sources
from polyres.errors import ConfigError
from polyres.training import RunConfig
from polyres.training.batches import open_batches
from polyres.training.loop import accumulate_gradients, begin, draw
from polyres.training.objective import make_losses
from polyres.training.processes import Processes, join_processes
from polyres.training.start import initial_model

pytest.importorskip("accelerate", reason="needs the extra distributed")


def gradients(settings: RunConfig, processes: Processes) -> dict[str, torch.Tensor | None]:
    """The gradient of each weight of the model and of the discriminator in the first step."""
    state = begin(initial_model(settings), settings)
    batches = open_batches(open_sources(settings.data.train), settings, processes)
    drawn, _ = draw(batches, 0, processes.share(settings.accumulate))
    accumulate_gradients(state, drawn, make_losses(settings.losses), settings, processes)
    batches.close()
    for network in state.trained:
        processes.sum_gradients(list(network.parameters()))
    return {
        f"{index}.{name}": p.grad
        for index, network in enumerate(state.trained)
        for name, p in network.named_parameters()
    }


def worker(folder: Path, task: str) -> None:
    """What a process of a group does: note its gradients, or fail in the second one."""
    settings = RunConfig.model_validate_json((folder / "run.json").read_text())
    processes = join_processes(settings.device)
    torch.save(gradients(settings, processes), folder / f"gradients-{processes.rank}.pt")
    if task == "fail" and processes.rank == 1:
        raise RuntimeError("this process fails")
    processes.wait()
    processes.close()


def settings_of(folder: Path) -> RunConfig:
    # A head for each scale: with one scale in each process, neither uses all of them, and x4 is used by none.
    heads = {"name": "spconv", "options": {"scales": [2, 3, 4]}}
    model = {**MODEL, "upsampler": heads}
    scales = {"2": 1, "3": 1}
    seed = next(s for s in range(99) if len(drawn_scales(folder, model, scales, s)) == 2)
    gan = {"discriminator": {"name": "unet", "options": {"channels": 4}}}
    return config(folder, model=model, accumulate=2, seed=seed, data={"scales": scales}, gan=gan)


def drawn_scales(folder: Path, model: object, scales: object, seed: int) -> set[str]:
    settings = config(folder, model=model, accumulate=2, seed=seed, data={"scales": scales, "workers": 0})
    batches = open_batches(open_sources(settings.data.train), settings, Processes())
    return {str(batch.scale) for batch in draw(batches, 0, 2)[0]}


@pytest.mark.parametrize("task", ["compare", "fail"])
def test_two_processes_have_the_gradients_of_one_and_end_together(tmp_path: Path, task: str) -> None:
    save_pictures(tmp_path)
    settings = settings_of(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(json.loads(settings.model_dump_json())))
    statuses = two_processes(__file__, tmp_path, task)
    assert all(statuses) if task == "fail" else not any(statuses)
    alone = gradients(settings, Processes())
    assert any(grad is None for grad in alone.values())
    assert any(name.startswith("1.") for name in alone)
    for rank in range(2):
        together = torch.load(tmp_path / f"gradients-{rank}.pt", weights_only=True)
        for name, grad in alone.items():
            if grad is None:
                assert together[name] is None, name
            else:
                assert (together[name] - grad).abs().max() <= 1e-6, name


def test_micro_batches_must_divide_among_the_processes() -> None:
    group = Processes()
    group.world = 2
    assert group.share(4) == 2
    with pytest.raises(ConfigError, match="multiple of 2; got 3"):
        group.share(3)


if __name__ == "__main__":
    worker(Path(sys.argv[1]), sys.argv[2])
