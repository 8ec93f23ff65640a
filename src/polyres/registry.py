"""Tables of parts: a name, how to make the part, where it comes from, and its smallest useful form.

A table is a literal list in the ``__init__`` of its package. It is a read-only mapping from name to
:class:`Entry`; looking up a name that is not in it raises :class:`UnknownNameError` with a suggestion.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from polyres.errors import ConfigError, UnknownNameError, nearest

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Entry(Generic[T_co]):
    """One named part.

    Attributes:
        name: what users write.
        factory: the class or function that makes the part from keyword options.
        summary: one line for help texts and generated documentation.
        source: the paper or repository that the part follows.
        licence: SPDX identifier of the original's code (ours is Apache-2.0 throughout).
        options: keyword options that make this entry what its name says (a preset).
        tiny: options on top of these for the contract tests: the smallest network of its kind.
    """

    name: str
    factory: Callable[..., T_co]
    summary: str
    source: str
    licence: str
    options: Mapping[str, Any] = field(default_factory=dict)
    tiny: Mapping[str, Any] = field(default_factory=dict)

    def make(self, **options: Any) -> T_co:
        """The part with ``options`` on top of the entry's own.

        Raises:
            ConfigError: an option that the part does not have, or a value that it refuses.
        """
        known = list(inspect.signature(self.factory).parameters)
        for name in options:
            if name not in known:
                raise ConfigError(
                    f"'{self.name}' has no option '{name}'; it has {', '.join(known)}.{nearest(name, known)}"
                )
        try:
            return self.factory(**{**self.options, **options})
        except (TypeError, ValueError, IndexError, ArithmeticError, RuntimeError) as error:
            raise ConfigError(f"cannot make '{self.name}' with these options: {error}") from error


class Table(Mapping[str, Entry[T_co]]):
    """A read-only mapping from name to :class:`Entry`, in the order of the list."""

    def __init__(self, kind: str, entries: Iterable[Entry[T_co]]) -> None:
        self.kind = kind
        self._entries = {entry.name: entry for entry in entries}

    def __getitem__(self, name: str) -> Entry[T_co]:
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownNameError(
                f"no {self.kind} is called '{name}'; there are {', '.join(self._entries)}."
                f"{nearest(name, self._entries)}"
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def make(self, name: str, **options: Any) -> T_co:
        """The part called ``name``; see :meth:`Entry.make`."""
        return self[name].make(**options)
