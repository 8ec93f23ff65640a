"""The forms that a model runs in, as plain calls: image in, picture out."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from polyres.deploy import FusedModel
from polyres.model import SRModel
from polyres.scale import Scale

#: (N, C, H, W) in [0, 1] to the enlarged picture.
Form: TypeAlias = Callable[[Tensor], Tensor]


def dynamic(model: SRModel, scale: Scale) -> Form:
    """``model`` as it is trained: everything that depends on the scale is computed for each picture."""
    frozen = copy.deepcopy(model).eval().requires_grad_(False)

    def run(image: Tensor) -> Tensor:
        # Caches of kernels are for calls without gradients; frozen weights make none, but nothing is kept either.
        with torch.inference_mode(False), torch.enable_grad():
            result: Tensor = frozen(image, scale)
        return result

    return run


def cached(model: SRModel, scale: Scale) -> Form:
    """``model`` for the second and all further pictures of a scale."""
    kept = copy.deepcopy(model).eval()

    def run(image: Tensor) -> Tensor:
        with torch.no_grad():
            result: Tensor = kept(image, scale)
        return result

    return run


def no_grad(module: nn.Module) -> Form:
    """``module``, the plain network of one scale, without gradients."""

    def run(image: Tensor) -> Tensor:
        with torch.no_grad():
            result: Tensor = module(image)
        return result

    return run


def onnxruntime(plain: FusedModel) -> Form:
    """The plain network of one scale, exported and run by ONNX Runtime on as many threads as torch has."""
    from polyres.deploy.onnx import OnnxModel, export_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(plain, path)
        return OnnxModel(path.read_bytes())


def in_precision(form: Form, device: torch.device, dtype: torch.dtype) -> Form:
    """``form`` as :class:`polyres.Upscaler` runs it: channels last, convolutions in ``dtype``, the rest in float32."""

    def run(image: Tensor) -> Tensor:
        mixed: AbstractContextManager[object] = nullcontext()
        if dtype != torch.float32:
            mixed = torch.autocast(device.type, dtype)
        with mixed:
            return form(image.contiguous(memory_format=torch.channels_last))

    return run
