"""ONNX: fused models as files that other programs run, checked against the model that made them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polyres._version import __version__
from polyres.deploy.fuse import FusedModel
from polyres.errors import CheckpointError, MissingExtraError, OutputError
from polyres.files import replacing
from polyres.scale import Scale

#: The ONNX operator set that files are written in: ONNX Runtime 1.17 and OpenVINO 2024 read it.
OPSET = 20

#: Largest difference from the model, of 1, that an exported file may show in float32.
TOLERANCE = 1e-4

#: Sizes that a file is compared with its model at: odd ones, smaller and larger than the one it was made at.
_SIZES = ((23, 37), (48, 31))
_MADE_AT = (2, 3, 29, 43)
_KEYS = ("scale", "context", "multiple_of", "minimum_size")


def export_onnx(fused: FusedModel, path: str | Path, extra: Mapping[str, str] | None = None) -> float:
    """Write ``fused`` as an ONNX file that takes pictures of any size, in batches of any size.

    The input ``image`` is (N, C, H, W) float32 in [0, 1]; the output ``enlarged`` is that times the scale, not
    clamped. The file also says the scale and what tiles need to know (``metadata_props``).

    Args:
        fused: from :func:`polyres.fuse`; on the CPU.
        path: where; its folder must exist.
        extra: further entries for the file's metadata, such as a licence.

    Returns:
        the largest difference between ONNX Runtime and the model at sizes that the file was not made at.

    Raises:
        MissingExtraError: the ``export`` extra is not installed.
        OutputError: a network that cannot be exported, differs from its file, or cannot be written to ``path``.
    """
    path = Path(path)
    channels = _channels(fused)
    content = _serialised(fused, channels, {**_metadata(fused), **(extra or {})}, path)
    difference = _difference(fused, channels, content, path)
    with replacing(path) as stream:
        stream.write(content)
    return difference


class OnnxModel:
    """A super-resolution network in an ONNX file: ``model(image)``. Runs on ONNX Runtime's CPU provider.

    Args:
        path: of a file that :func:`export_onnx` wrote, or of any other with one picture in and one out; or its
            content.
        threads: that compute; by default as many as torch has.

    Attributes:
        scale: of the enlargement; measured on a small picture where the file does not say it.
        channels: of the pictures, 3 or 1.
        context: radius in LR pixels beyond which no input changes an output pixel; None if unknown or unbounded.
        multiple_of: tiles should start at multiples of this many pixels.
        minimum_size: smaller pictures may not work.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        CheckpointError: no such file, not ONNX, or a network of another kind.
    """

    def __init__(self, path: str | Path | bytes, threads: int | None = None) -> None:
        self.name = "the network" if isinstance(path, bytes) else str(path)
        self._session = _session(path, threads or torch.get_num_threads(), self.name)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 4:
            raise CheckpointError(
                f"{self.name}: expected a network with one picture (N, C, H, W) in and one out; "
                f"it has {len(inputs)} inputs and {len(outputs)} outputs"
            )
        self._input, self._shape = inputs[0].name, inputs[0].shape
        self._half = inputs[0].type == "tensor(float16)"
        self.channels = self._shape[1] if self._shape[1] in (1, 3) else 3
        said: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.context = int(said["context"]) if said.get("context", "none").isdecimal() else None
        self.multiple_of, self.minimum_size = (int(said.get(key, 1)) for key in _KEYS[2:])
        self.scale = _scale(said["scale"]) if "scale" in said else self._measured_scale()

    def __call__(self, image: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to (N, C, H * scale, W * scale) float32, not clamped.

        Raises:
            CheckpointError: the network failed, as one of a fixed size does at another.
        """
        values = np.ascontiguousarray(image.numpy(), np.float16 if self._half else np.float32)
        try:
            result = self._session.run(None, {self._input: values})[0]
        except (
            Exception
        ) as error:  # the classes of ONNX Runtime are not public, and derive from RuntimeError or not
            raise CheckpointError(
                f"{self.name}: the network failed on a picture of {image.shape[-1]}x{image.shape[-2]}, and says: "
                f"{str(error).splitlines()[0]}; it takes {self._shape}"
            ) from error
        return torch.from_numpy(np.asarray(result, np.float32))

    def _measured_scale(self) -> Scale:
        count, _, height, width = (size if isinstance(size, int) else None for size in self._shape)
        given = torch.zeros(count or 1, self.channels, height or 32, width or 32)
        rows, columns = self(given).shape[-2:]
        return _scale(f"{rows}/{given.shape[-2]},{columns}/{given.shape[-1]}")


def _scale(text: str) -> Scale:
    """The scale that a file says: one factor for rows, one for columns."""
    rows, columns = text.split(",")
    return Scale.of((rows, columns))


def _channels(fused: FusedModel) -> int:
    return fused.encoder.in_channels


def _metadata(fused: FusedModel) -> dict[str, str]:
    values = (fused.scale, fused.context, fused.multiple_of, fused.encoder.minimum_size)
    described = {key: str(value).lower() for key, value in zip(_KEYS, values, strict=True)}
    described["scale"] = f"{fused.scale.y},{fused.scale.x}"
    return described | {"producer": f"polyres {__version__}", "value_range": "0 to 1"}


def _serialised(fused: FusedModel, channels: int, metadata: Mapping[str, str], path: Path) -> bytes:
    """The file's content."""
    _need("onnxscript")
    image = torch.rand(_MADE_AT[0], channels, *_MADE_AT[2:])
    any_size = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    try:
        with _quiet(), torch.no_grad():
            fused(image)  # fills caches: what an export puts into them has no values
            program = torch.onnx.export(
                fused,
                (image,),
                dynamo=True,
                input_names=["image"],
                output_names=["enlarged"],
                dynamic_shapes=(any_size,),
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # the exporter raises what it comes across
        raise OutputError(
            f"{path}: a network with the encoder {type(fused.encoder).__name__} cannot be exported for every size: "
            f"{_reason(error)}; polyres upscale runs it with the engine torch"
        ) from error
    if program is None:
        raise OutputError(f"{path}: torch {torch.__version__} made no program; torch 2.6 or later is needed")
    proto = program.model_proto
    for key, value in metadata.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    return bytes(proto.SerializeToString())


def _difference(fused: FusedModel, channels: int, content: bytes, path: Path) -> float:
    """How far the file is from the model at other sizes than it was made at."""
    exported, largest = OnnxModel(content), 0.0
    for size in _SIZES:
        image = torch.rand(1, channels, *size)
        with torch.inference_mode():
            expected = fused(image)
        got = exported(image)
        if got.shape != expected.shape:
            raise OutputError(
                f"{path}: not written: the exported network makes {tuple(got.shape)} instead of "
                f"{tuple(expected.shape)} of a picture of {size[1]}x{size[0]}"
            )
        largest = max(largest, float((got - expected).abs().max()))
    if not largest <= TOLERANCE:
        raise OutputError(
            f"{path}: not written: the exported network differs from the model by {largest:.1e}; "
            f"at most {TOLERANCE:g} is rounding"
        )
    return largest


def _session(path: str | Path | bytes, threads: int, name: str) -> Any:
    runtime = _need("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    if not isinstance(path, bytes) and not Path(path).is_file():
        raise CheckpointError(f"{name}: no such file; expected an ONNX file")
    try:
        source = path if isinstance(path, bytes) else str(path)
        return runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise CheckpointError(f"{name}: not a usable ONNX file: {str(error).splitlines()[0]}") from error


def _need(module: str) -> Any:
    try:
        return __import__(module)
    except ImportError:
        raise MissingExtraError(f"ONNX ({module})", "export") from None


def _reason(error: BaseException) -> str:
    """The first error of a chain that says anything in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """A block in which the exporter keeps its progress and its warnings to itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
