"""What happens beside learning: validation, logs, curves, checkpoints; in the first process only."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from polyres.data.sources import load_pictures
from polyres.errors import PolyresError
from polyres.training.config import RunConfig
from polyres.training.curve import draw_curve
from polyres.training.log import RunLog
from polyres.training.saving import RunFolder
from polyres.training.sharding import local
from polyres.training.state import StepReport, TrainingState
from polyres.training.validation import validate

logger = logging.getLogger(__name__)

#: (step report, newest validation result) after each step; the command line draws its progress from it.
Watch = Callable[[StepReport, dict[str, float]], None]


class Journal:
    """Keeps the record of a run.

    Args:
        config: of the run.
        folder: that everything is written to.
        fingerprint: of the training pictures.
        step: that the run goes on from; later lines of an earlier attempt are dropped.
        watch: told after each step.
    """

    def __init__(
        self, config: RunConfig, folder: RunFolder, fingerprint: str, step: int, watch: Watch | None
    ) -> None:
        self._config, self._folder, self._watch = config, folder, watch
        folder.describe(fingerprint)
        self._held_out = load_pictures(config.data.validation, at_most=config.data.validation_pictures)
        self._validation: dict[str, float] = {}
        self._saved = step
        self._log = RunLog(config, step)

    def step(self, state: TrainingState, report: StepReport) -> None:
        """Validate, log and save where it is time to."""
        config, last = self._config, state.step == self._config.steps
        self._log.count(report)
        if self._held_out and (last or state.step % config.validate_every == 0):
            self._validate(state)
        if last or state.step % config.log_every == 0:
            self._log.step(report)
        if config.saves_after(state.step):
            self._save(state)
        if last or state.step % config.validate_every == 0:
            draw_curve(config.output)
        if self._watch is not None:
            self._watch(report, self._validation)

    def rescue(self, state: TrainingState) -> None:
        """Save what was learned before an interruption or failure, if it is whole and can be saved."""
        if not state.whole or state.step == self._saved or not state.can_be_saved:
            return
        if not all(bool(torch.isfinite(local(p)).all()) for p in state.model.parameters()):
            return
        try:
            self._save(state)
        except PolyresError as error:
            logger.warning("what came after step %d was not saved: %s", self._saved, error)

    def close(self) -> None:
        """Close the logs."""
        self._log.close()

    def _save(self, state: TrainingState) -> None:
        self._folder.save(state)
        self._saved = state.step

    def _validate(self, state: TrainingState) -> None:
        config = self._config
        self._validation = validate(state.average, self._held_out, config, config.output, state.step)
        self._log.validation(state.step, self._validation)
        mean = sum(self._validation.values()) / len(self._validation)
        if mean > state.best:
            state.best = mean
            self._folder.save_best(state)
