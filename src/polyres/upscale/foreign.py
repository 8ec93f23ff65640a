"""Foreign engines: ONNX Runtime and OpenVINO, which run the ONNX file of a fused model, exported once."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polyres._version import __version__
from polyres.deploy.fuse import FusedModel
from polyres.deploy.onnx import OPSET, OnnxModel, export_onnx
from polyres.errors import MissingExtraError
from polyres.files import make_folder
from polyres.layers.native.compiling import cache_folder
from polyres.upscale.engine import Engine, TorchEngine

#: What each engine needs to be importable, and the extra that installs it.
NEEDS = {
    "onnxruntime": (("onnxruntime", "onnxscript"), "export"),
    "openvino": (("openvino", "onnxruntime", "onnxscript"), "openvino,export"),
}


def is_installed(name: str) -> bool:
    """Whether all that the engine called ``name`` needs is there."""
    return all(importlib.util.find_spec(module) is not None for module in NEEDS[name][0])


class OnnxEngine(Engine):
    """A fused model run by ONNX Runtime on the CPU, in float32; arguments as for :class:`OpenVinoEngine`."""

    def __init__(self, fused: FusedModel, folder: Path | None = None) -> None:
        super().__init__(fused, torch.device("cpu"), torch.float32)
        self._fused = fused
        self._model = OnnxModel(exported(fused, folder))

    def bytes_per_pixel(self) -> float:
        """As torch needs, which frees and takes the same features."""
        return _as_torch(self._fused)

    def __str__(self) -> str:
        return "ONNX Runtime, float32 on cpu"

    def _run(self, image: Tensor) -> Tensor:
        return self._model(image)


class OpenVinoEngine(Engine):
    """A fused model run by OpenVINO on the CPU.

    Args:
        fused: the model at one scale, on the CPU.
        dtype: float32 or bfloat16.
        folder: for the exported file; by default the user's cache folder.
    """

    def __init__(self, fused: FusedModel, dtype: torch.dtype, folder: Path | None = None) -> None:
        super().__init__(fused, torch.device("cpu"), dtype)
        self._fused = fused
        self._compiled = _compiled(exported(fused, folder), dtype)

    def bytes_per_pixel(self) -> float:
        """As torch needs, which frees and takes the same features."""
        return _as_torch(self._fused)

    def __str__(self) -> str:
        return f"OpenVINO, {str(self.dtype).removeprefix('torch.')} on cpu"

    def _run(self, image: Tensor) -> Tensor:
        return torch.from_numpy(self._compiled(image.contiguous().numpy())[0].copy())


def exported(fused: FusedModel, folder: Path | None = None) -> Path:
    """The ONNX file of ``fused``, from ``folder`` or made there now.

    Raises:
        MissingExtraError: the exporter is not installed.
        OutputError: a network that cannot be exported, or a folder that cannot be written.
    """
    path = _file_of(fused, folder)
    if not path.is_file():
        make_folder(path.parent)
        export_onnx(fused, path)
    return path


def is_exported(fused: FusedModel, folder: Path | None = None) -> bool:
    """Whether :func:`exported` has made the file of ``fused`` already."""
    return _file_of(fused, folder).is_file()


def fingerprint(module: torch.nn.Module) -> str:
    """What tells one network, with its weights, from any other."""
    content = hashlib.sha256(f"{__version__} {torch.__version__} {OPSET} {module}".encode())
    content.update(str(getattr(module, "scale", "")).encode())
    for name, value in sorted(module.state_dict().items()):
        content.update(name.encode())
        content.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:32]


def _file_of(fused: FusedModel, folder: Path | None) -> Path:
    return (folder or cache_folder()) / f"{fingerprint(fused)}.onnx"


def _as_torch(fused: FusedModel) -> float:
    return TorchEngine(fused, torch.device("cpu"), torch.float32, native=False).bytes_per_pixel()


def _compiled(path: Path, dtype: torch.dtype) -> Any:
    try:
        import openvino
    except ImportError:
        raise MissingExtraError("the engine openvino", "openvino,export") from None
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    core = openvino.Core()
    return core.compile_model(core.read_model(str(path)), "CPU", settings)
