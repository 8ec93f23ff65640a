"""Perceptual metrics that the user brings as ONNX files, such as LPIPS exported from its authors' code.

polyres has no weights of such networks and no numbers to check an own version by, so it runs what it is given and
states the file's fingerprint beside the protocol.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polyres.errors import CheckpointError, DataError, MissingExtraError, UsageError
from polyres.evaluation.fingerprints import of_file

Pixels = npt.NDArray[np.uint8]

#: The scores that every report may have; no judge takes one of their names.
_TAKEN = frozenset({"psnr", "ssim", "ms-ssim", "ms_ssim", "model", "set", "scale", "picture", "protocol"})


@dataclass(frozen=True)
class Judge:
    """A metric in an ONNX file: two pictures in, one number out.

    Attributes:
        name: of its column.
        definition: what it computes, by the fingerprint of its file.
        session: ONNX Runtime's.
    """

    name: str
    definition: str
    session: Any = field(repr=False, compare=False)

    def __call__(self, result: Pixels, original: Pixels) -> float:
        """The metric of two pictures (H, W, 3), given to the network as float32 (1, 3, H, W) in [0, 1], in this order.

        Raises:
            DataError: it fails on these pictures, or does not give one finite number.
        """
        names = [each.name for each in self.session.get_inputs()]
        planes = [_planes(picture) for picture in (result, original)]
        try:
            (value,) = self.session.run(None, dict(zip(names, planes, strict=True)))
        except Exception as error:  # ONNX Runtime's errors have no common type below this
            raise DataError(f"metric '{self.name}' failed: {str(error).splitlines()[0]}") from error
        if np.size(value) != 1 or not np.isfinite(value).all():
            raise DataError(
                f"metric '{self.name}' should give one finite number; got shape {np.shape(value)}"
            )
        return float(np.reshape(value, ()))


def read_judges(texts: Iterable[str]) -> list[Judge]:
    """The judges that ``NAME=FILE.onnx``, or a file alone, mean; a file's name then is the metric's.

    Raises:
        UsageError: a name that is taken, used twice, or of letters that no column should have.
        CheckpointError: no such file, or no ONNX network of two pictures and one number.
        MissingExtraError: ONNX Runtime is not installed.
    """
    judges: dict[str, Judge] = {}
    for text in texts:
        label, sign, file = text.rpartition("=")
        path = Path(file)
        name = label if sign else path.stem
        if name in judges or name.lower() in _TAKEN or not re.fullmatch(r"[\w.+-]+", name):
            raise UsageError(
                f"a metric needs a name of its own, of letters and digits: NAME=FILE.onnx; got '{text}'"
            )
        judges[name] = _judge(name, path)
    return list(judges.values())


def _judge(name: str, path: Path) -> Judge:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("a metric in an ONNX file", "export") from error
    if not path.is_file():
        raise CheckpointError(f"expected a metric's ONNX file, but there is no file {path}")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise CheckpointError(
            f"{path} is no ONNX network that runs here: {str(error).splitlines()[0]}"
        ) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    kinds = [(each.type, len(each.shape)) for each in inputs]
    if kinds != [("tensor(float)", 4)] * 2 or len(outputs) != 1:
        raise CheckpointError(
            f"{path}: a metric takes two float32 pictures (1, 3, H, W) and gives one number; this network takes "
            f"{len(inputs)} inputs and gives {len(outputs)}"
        )
    definition = (
        f"{name}: the network in {path.name} (SHA-256 {of_file(path)}...), run on RGB of 8-bit results and originals "
        "in [0, 1], shaved as the protocol says."
    )
    return Judge(name, definition, session)


def _planes(picture: Pixels) -> npt.NDArray[np.float32]:
    planes = picture.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(planes, dtype=np.float32)
