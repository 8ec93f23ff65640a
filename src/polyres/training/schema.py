"""The JSON Schema of run files, which editors complete and check them with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from polyres.data.degradations import DEGRADATIONS
from polyres.discriminators import DISCRIMINATORS
from polyres.encoders import ENCODERS
from polyres.losses import LOSSES
from polyres.training.config import RunConfig
from polyres.training.scale_sets import ScaleRange
from polyres.upsamplers import UPSAMPLERS

#: The file in the package; ``polyres config schema`` prints it.
SCHEMA = Path(__file__).parent / "run.schema.json"

#: How often something is drawn.
_FREQUENCY = {"type": "number", "minimum": 0}

#: A scale as YAML has it, a number or text such as 3/2; the reader turns both into text.
_SCALE = {"anyOf": [{"type": "number", "minimum": 1}, {"type": "string", "pattern": "^[0-9]"}]}

#: What the reader makes one mapping of: a list, frequencies by scale, or a range.
_FORMS_OF_SCALES = [
    {"type": "array", "minItems": 1, "items": _SCALE},
    {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": "^[0-9]"},
        "additionalProperties": _FREQUENCY,
    },
    {"$ref": "#/$defs/ScaleRange"},
]


def schema() -> dict[str, Any]:
    """The schema as the models in :mod:`polyres.training.config` and the tables have it."""
    content = RunConfig.model_json_schema()
    parts = content["$defs"]
    parts["ModelConfig"]["properties"]["encoder"] = _named(parts, "encoder", ENCODERS)
    parts["ModelConfig"]["properties"]["upsampler"] = _named(parts, "upsampler", UPSAMPLERS)
    judge = parts["GanConfig"]["properties"]["discriminator"]
    del judge["$ref"]
    parts["GanConfig"]["properties"]["discriminator"] = {
        **_named(parts, "discriminator", DISCRIMINATORS),
        **judge,
    }
    parts["LossConfig"]["properties"]["name"]["enum"] = list(LOSSES)
    parts["DegradationConfig"]["properties"]["name"]["enum"] = list(DEGRADATIONS)
    parts["ScaleRange"] = ScaleRange.model_json_schema()
    parts["ScaleRange"]["properties"]["range"]["prefixItems"] = [_SCALE, _SCALE]
    scales = parts["DataConfig"]["properties"]["scales"]
    scales["anyOf"] = _FORMS_OF_SCALES
    scales.pop("type", None)
    scales.pop("additionalProperties", None)
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "polyres run file"}
    return {**content, **title}


def schema_text() -> str:
    """The schema as the file in the package holds it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False, default=str) + "\n"


def _named(parts: dict[str, Any], kind: str, names: Iterable[str]) -> dict[str, Any]:
    """A part whose name is one of a table's."""
    plain = parts["PartConfig"]
    name = {**plain["properties"]["name"], "enum": list(names)}
    return {
        **plain,
        "title": kind.title(),
        "properties": {**plain["properties"], "name": name},
        "required": ["name"],
    }
