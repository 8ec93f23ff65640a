"""Names of results: from a template, of a length that file systems take, and never a way out of their folder."""

from __future__ import annotations

import hashlib
import os
import string
from dataclasses import dataclass

from polyres.errors import UsageError, nearest

#: Bytes that common file systems take in one name.
LONGEST = 255

_FIELDS = ("stem", "size", "scale", "ext")


@dataclass(frozen=True)
class NameTemplate:
    """How a result is called: ``{stem}_{size}{ext}``.

    ``{stem}`` is the picture's name without its suffix, ``{ext}`` the suffix of the result with its dot, ``{size}``
    what was asked for (``x2``, ``1920x1080``, ``w3840``), and ``{scale}`` the same without a leading ``x``.

    Attributes:
        text: with any of these fields; other braces are doubled.

    Raises:
        UsageError: another field, a name without the stem, or one with slashes.
    """

    text: str = "{stem}_{size}{ext}"

    def __post_init__(self) -> None:
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(self.text) if field is not None]
        except ValueError as error:
            raise UsageError(f"the name template '{self.text}' cannot be read: {error}") from None
        for field in fields:
            if field not in _FIELDS:
                raise UsageError(
                    f"a name template has the fields {', '.join(_FIELDS)}; '{self.text}' asks for '{field}'."
                    f"{nearest(field, _FIELDS)}"
                )
        if "stem" not in fields:
            raise UsageError(
                f"a name template needs {{stem}}, or all results would have one name: '{self.text}'"
            )
        if any(mark and mark in self.text for mark in ("/", os.sep, os.altsep, "\0")):
            raise UsageError(f"a name is part of a path and has no slashes; got '{self.text}'")

    def name(self, stem: str, size: str, ext: str) -> str:
        """The name of the result of a picture called ``stem``, shortened where it would be too long.

        A stem that is cut keeps its beginning and gets eight digits that stand for the whole of it.
        """
        full = self._filled(stem, size, ext)
        excess = len(os.fsencode(full)) - LONGEST
        if excess <= 0:
            return full
        encoded = os.fsencode(stem)
        mark = f"~{hashlib.sha256(encoded).hexdigest()[:8]}"
        kept = max(0, len(encoded) - excess - len(mark))
        return self._filled(encoded[:kept].decode(errors="ignore") + mark, size, ext)

    def _filled(self, stem: str, size: str, ext: str) -> str:
        return self.text.format(stem=stem, size=size, scale=size.removeprefix("x"), ext=ext)
