"""What takes part in an evaluation: models by name, file or label, each ready to be called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyres.errors import CheckpointError, UsageError
from polyres.evaluation.baselines import BASELINES
from polyres.evaluation.fingerprints import of_model
from polyres.evaluation.quadrants import in_quadrants
from polyres.evaluation.routes import Upscale
from polyres.evaluation.wrapping import Wrapped, ensemble
from polyres.scale import Scale

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Settings:
    """How every model of a run is called.

    Attributes:
        device: where networks run.
        quadrants: whether pictures are cut, as EDSR's ``--chop`` does.
        ensemble: whether eight turned and mirrored copies are averaged.
        networks: the ``network_g`` of original checkpoints by model as the user wrote it; of all others under "".
    """

    device: str = "cpu"
    quadrants: bool = False
    ensemble: bool = False
    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Contender:
    """One model of a run.

    Attributes:
        label: what its rows are called.
        upscale: the model.
        supports: whether it makes a scale.
        fingerprint: of its file and settings.
    """

    label: str
    upscale: Upscale
    supports: Callable[[Scale], bool]
    fingerprint: str


def find_contender(text: str, settings: Settings) -> Contender:
    """The contender that ``text`` means: a kernel, a bundled model, a file, or ``LABEL=`` before one of these.

    Raises:
        UsageError: a device that is not there, or an ONNX file on another device than the CPU.
        UnknownNameError: neither a file nor a name.
        CheckpointError: a file that cannot be used.
    """
    label, name = split_label(text)
    if name in BASELINES:
        made = Contender(label, BASELINES[name], lambda scale: True, of_model(["imresize", name]))
    elif Path(name).suffix.lower() == ".onnx":
        made = _onnx(label, Path(name), settings)
    else:
        made = _network(label, name, settings)
    return _wrapped(made, settings)


def refuse_clashes(contenders: Sequence[Contender], scales: Iterable[Scale]) -> None:
    """Refuse two contenders of one label for one scale, and one that makes none of the scales.

    Raises:
        UsageError: such contenders; the message names them.
    """
    seen: set[tuple[str, Scale]] = set()
    wanted = list(scales)
    for each in contenders:
        possible = [scale for scale in wanted if each.supports(scale)]
        if not possible:
            raise UsageError(
                f"'{each.label}' makes none of the scales {', '.join(map(str, wanted))}: add its own to --scales"
            )
        for scale in possible:
            if (each.label, scale) in seen:
                raise UsageError(
                    f"two models are called '{each.label}' at scale {scale}: give one a label, --model LABEL=FILE"
                )
            seen.add((each.label, scale))


def split_label(text: str) -> tuple[str, str]:
    """``(label, model)`` of ``LABEL=MODEL``, or of a model alone; a file whose name holds a "=" is no label."""
    label, sign, name = text.partition("=")
    return (label, name) if sign and label and name and not Path(text).exists() else (text, text)


def _network(label: str, name: str, settings: Settings) -> Contender:
    from polyres.evaluation.models import model_upscaler
    from polyres.weights import load, resolve
    from polyres.weights.files import read_weights

    def describes_itself(path: Path) -> bool:
        return read_weights(path)[1].get("format") == "polyres"

    path = resolve(name)
    network_g = settings.networks.get(label, settings.networks.get(name))
    if network_g is None and "" in settings.networks and not describes_itself(path):
        network_g = settings.networks[""]
    model = load(name, network_g)
    upscale = model_upscaler(model, settings.device)
    return Contender(label, upscale, model.upsampler.supports, of_model(["network", network_g], [path]))


def _onnx(label: str, path: Path, settings: Settings) -> Contender:
    """A network for one scale, run by ONNX Runtime on the CPU."""
    import torch

    from polyres.deploy.onnx import OnnxModel
    from polyres.evaluation.models import ModelUpscaler

    if settings.device != "cpu":
        raise UsageError(f"'{path}' is measured on the CPU; leave out --device {settings.device}")
    model = OnnxModel(path)
    own = model.scale
    if model.channels != 3:
        raise CheckpointError(f"'{path}' takes grey pictures; measuring needs a network of RGB pictures")

    def network(image: Tensor, scale: Scale) -> Tensor:
        return model(image)

    upscale = ModelUpscaler(network, torch.device("cpu"))
    return Contender(label, upscale, lambda scale: scale == own, of_model(["onnx"], [path]))


def _wrapped(made: Contender, settings: Settings) -> Contender:
    """``made`` with pictures cut or turned, which its label and fingerprint tell; kernels are left as they are."""
    if made.upscale in BASELINES.values():
        return made
    label, upscale, marks = made.label, made.upscale, []
    if settings.quadrants:
        label, upscale = f"{label}, in quadrants", Wrapped(upscale, in_quadrants)
        marks.append("quadrants")
    if settings.ensemble:
        label, upscale = f"{label}, ×8 ensemble", Wrapped(upscale, ensemble)
        marks.append("ensemble")
    supports = _whole(made.supports) if settings.quadrants else made.supports
    fingerprint = of_model([made.fingerprint, *marks]) if marks else made.fingerprint
    return Contender(label, upscale, supports, fingerprint)


def _whole(supports: Callable[[Scale], bool]) -> Callable[[Scale], bool]:
    """``supports``, of whole-number scales only, as quadrants are cut for these."""
    return lambda scale: scale.is_integer and supports(scale)
