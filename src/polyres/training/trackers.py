"""Services that follow runs, through Accelerate's trackers."""

from __future__ import annotations

import importlib.util
import json

from polyres.errors import MissingExtraError
from polyres.training.config import RunConfig


class Trackers:
    """Those that ``config.trackers`` names.

    Raises:
        MissingExtraError: Accelerate or the package of a service is not installed.
    """

    def __init__(self, config: RunConfig) -> None:
        for package in config.trackers:
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(f"telling {package} of a run", package)
        try:
            from accelerate import Accelerator
        except ImportError:
            raise MissingExtraError("telling trackers of a run", config.trackers[0]) from None
        self._accelerator = Accelerator(cpu=config.device == "cpu", log_with=list(config.trackers))
        self._accelerator.init_trackers(
            "polyres", {"run": config.output.name, "config": json.dumps(json.loads(config.model_dump_json()))}
        )

    def log(self, values: dict[str, float], step: int) -> None:
        """Values of ``step`` by name."""
        self._accelerator.log(values, step=step)

    def close(self) -> None:
        """Finish the run there."""
        self._accelerator.end_training()
