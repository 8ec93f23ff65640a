"""Results that survive an interruption: a JSON report that grows, and that a later run goes on with."""

from __future__ import annotations

import time
from pathlib import Path

from polyres.data import Pair
from polyres.errors import DataError
from polyres.evaluation.contenders import Contender
from polyres.evaluation.fingerprints import of_pair
from polyres.evaluation.report import Report, Row
from polyres.files import write_file

#: Seconds between two writings of the file during a run.
_INTERVAL = 5.0


class Journal:
    """The rows of a run, kept in a file if there is one.

    Args:
        path: the JSON file; what it holds of an earlier run by the same rules is kept. None keeps nothing.
        empty: a report without rows that states the rules.

    Raises:
        DataError: the file holds something else, or a report by other rules; the message tells the difference.
    """

    def __init__(self, path: Path | None, empty: Report) -> None:
        self._path, self._empty = path, empty
        self._rows = {row.key: row for row in _known(path, empty)} if path else {}
        self._written = time.monotonic()
        #: Labels of models that have changed since the file was written.
        self.changed: set[str] = set()

    @property
    def report(self) -> Report:
        """All rows so far."""
        return self._empty.model_copy(update={"rows": tuple(self._rows.values())})

    def has(self, contender: Contender, pair: Pair, needs: frozenset[str]) -> bool:
        """Whether the row of ``pair`` is there, with the metrics that it ``needs``, of this model and these files.

        A row of another model by that name, or of other files, is dropped.
        """
        key = (contender.label, pair.group, str(pair.scale), pair.name)
        row = self._rows.get(key)
        if row is None:
            return False
        if row.made_by != contender.fingerprint:
            self.changed.add(contender.label)
        same = (row.made_by, row.made_from) == (contender.fingerprint, of_pair(pair))
        if not same:
            del self._rows[key]
        return same and all(getattr(row, name) is not None for name in needs)

    def add(self, row: Row) -> None:
        """Keep ``row``, and write the file if it was written some seconds ago."""
        self._rows.pop(row.key, None)
        self._rows[row.key] = row
        if time.monotonic() - self._written > _INTERVAL:
            self.write()

    def sort(self, keys: list[tuple[str, str, str, str]]) -> None:
        """Bring the rows into the order of ``keys``, after those that are not among them."""
        wanted = set(keys)
        others = {key: row for key, row in self._rows.items() if key not in wanted}
        self._rows = others | {key: self._rows[key] for key in keys if key in self._rows}

    def write(self) -> None:
        """Write the file, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        if self._path:
            write_file(self._path, self.report.to_json().encode())
            self._written = time.monotonic()


def _known(path: Path, empty: Report) -> tuple[Row, ...]:
    """The rows in the file at ``path``, if it is there."""
    if not path.exists():
        return ()
    found = read_report(path)
    if (found.definition, found.route) != (empty.definition, empty.route):
        raise DataError(
            f"'{path}' holds results by other rules: {found.protocol}, route {found.route}, where this run is by "
            f"{empty.protocol}, route {empty.route}. Name another file, or remove that one. Its definition: "
            f"{found.definition}"
        )
    return found.rows


def read_report(path: Path) -> Report:
    """The report in the file at ``path``.

    Raises:
        DataError: it cannot be read, or holds no report.
    """
    try:
        return Report.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' cannot be read as a report: {error}") from error
    except DataError as error:
        raise DataError(f"'{path}': {error}") from error
