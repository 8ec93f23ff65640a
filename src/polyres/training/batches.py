"""From the data section of a run to micro-batches, made ahead of their use."""

from __future__ import annotations

from polyres.data.crops import CropSampler
from polyres.data.degradations import make_steps
from polyres.data.lowering import Bicubic, Degraded, Lowering
from polyres.data.prefetch import Prefetched
from polyres.data.sources import Source
from polyres.training.config import DataConfig, RunConfig
from polyres.training.processes import Processes, Shared


def open_batches(source: Source, config: RunConfig, processes: Processes) -> Prefetched:
    """This process's micro-batches of pictures of ``source``; close it when done.

    Raises:
        ConfigError: micro-batches that cannot be divided among the processes.
        DataError: pictures that are too small.
    """
    data = config.data
    sampler = CropSampler(
        source,
        data.exact_scales,
        data.patch,
        data.batch,
        config.seed,
        list(data.scales.values()),
        lowering(data),
        data.skip_small,
        data.choose_from,
        data.choose_by,
    )
    micros = processes.share(config.accumulate)
    return Prefetched(
        Shared(sampler, processes), micros, workers=data.workers, processes=data.worker_processes
    )


def lowering(data: DataConfig) -> Lowering:
    """How the run file wants LR to be made."""
    if data.degradations:
        return Degraded(make_steps(step.model_dump() for step in data.degradations), data.low.on)
    return Bicubic(data.low.kernel, data.low.on)
