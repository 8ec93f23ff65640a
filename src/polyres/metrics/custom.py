"""One's own measuring protocol, from a YAML file that names the fields of :class:`polyres.metrics.Protocol`.

::

    name: mine
    colour: y-rounded      # y, y-rounded, y-full or rgb
    shave_scales: 1        # pixels shaved, in units of the scale
    shave_pixels: 6        # pixels shaved on top
    quantise: true         # results are rounded to 8 bits
    peak: 255
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from polyres.errors import ConfigError, UnknownNameError, nearest
from polyres.metrics.protocol import PROTOCOLS, Protocol, find_protocol

_ENDINGS = (".yml", ".yaml")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_peak(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


#: The fields of a file: what each must be, in words and as a test.
_FIELDS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "name": ("a name", lambda value: isinstance(value, str) and bool(value.strip())),
    "colour": ("y, y-rounded, y-full or rgb", lambda value: isinstance(value, str)),
    "shave_scales": ("a whole number of at least 0", _is_count),
    "shave_pixels": ("a whole number of at least 0", _is_count),
    "quantise": ("true or false", lambda value: isinstance(value, bool)),
    "peak": ("a number above 0", _is_peak),
}


def protocol_from(name_or_file: str) -> Protocol:
    """The protocol of this name, or the one in a file that ends in ``.yml`` or ``.yaml``.

    Raises:
        UnknownNameError: no such name.
        ConfigError: see :func:`read_protocol`.
    """
    if name_or_file.lower().endswith(_ENDINGS):
        return read_protocol(Path(name_or_file))
    return find_protocol(name_or_file)


def read_protocol(path: Path) -> Protocol:
    """The protocol that the YAML file at ``path`` describes; what it leaves out is as in ``paper-y``.

    Raises:
        ConfigError: no such file, no YAML, no name, a name that is taken, or fields that are unknown or of a wrong
            kind.
    """
    fields = _read_mapping(path)
    for field, value in fields.items():
        if field not in _FIELDS:
            raise ConfigError(
                f"{path}: a protocol has no '{field}'; it has {', '.join(_FIELDS)}.{nearest(field, _FIELDS)}"
            )
        words, fits = _FIELDS[field]
        if not fits(value):
            raise ConfigError(f"{path}: {field} is {words}; got {value!r}")
    name = fields.get("name")
    if name is None or name in PROTOCOLS:
        reason = f"'{name}' means something else already" if name else "it has none"
        raise ConfigError(f"{path}: a protocol of one's own needs a name of its own (name: mine); {reason}")
    try:
        return Protocol(**fields)
    except UnknownNameError as error:
        raise ConfigError(f"{path}: {error}") from error


def _read_mapping(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the protocol file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no protocol: expected lines such as 'name: mine' and 'colour: rgb'")
    return {str(key): value for key, value in content.items()}
