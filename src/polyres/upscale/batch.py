"""Batches: which pictures are enlarged and where each result goes, settled before any work is done."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyres.errors import DataError, OutputError, PictureError, PolyresError, UsageError
from polyres.pictures.formats import SUFFIXES, Format, format_of

_JUNK_FOLDERS = frozenset({"__MACOSX", "$RECYCLE.BIN", "System Volume Information"})


@dataclass(frozen=True)
class Job:
    """One picture: where it is read from and where its result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Batch:
    """What a run has to do.

    Attributes:
        jobs: in the order of the inputs, folders by name.
        failures: inputs that hold nothing to do, each with the reason.
    """

    jobs: tuple[Job, ...]
    failures: tuple[tuple[Path, PolyresError], ...]


def gather(
    inputs: Sequence[Path],
    output: Path | None = None,
    *,
    suffix: str = "",
    target_format: Format | None = None,
    recursive: bool = False,
) -> Batch:
    """The jobs for ``inputs``, files and folders.

    Without ``output`` the result of a file lies beside it, and those of a folder ``pictures`` in a new folder
    beside that, called ``pictures`` and the suffix. An ``output`` with the suffix of a picture is the file to
    write, if there is one input and it is a file; any other is a folder.

    Args:
        inputs: a folder stands for the pictures in it, junk and hidden files left out; a file is taken as it is.
        output: a folder, or a file.
        suffix: put after the name of each picture: ``cat.jpg`` becomes ``cat_x2.jpg``.
        target_format: of the results; by default the picture's own, or PNG if that is not written.
        recursive: also take the folders inside folders; the results mirror the tree.

    Raises:
        UsageError: two pictures that would become one file, or a result that would replace an input.
    """
    if "/" in suffix or os.sep in suffix:
        raise UsageError(f"a suffix is part of a file's name and has no slashes; got '{suffix}'")
    jobs: list[Job] = []
    failures: list[tuple[Path, PolyresError]] = []
    for given in inputs:
        if given.is_dir():
            found = list(_in_folder(given, output, suffix, target_format, recursive))
            if not found:
                failures.append((given, _nothing_in(given, recursive)))
            jobs += found
        elif not given.exists():
            failures.append((given, PictureError(f"{given}: no such file or folder; expected pictures")))
        else:
            jobs.append(Job(given, _file_target(given, output, suffix, target_format, len(inputs) == 1)))
    jobs = list(dict.fromkeys(jobs))
    _check(jobs)
    return Batch(tuple(jobs), tuple(failures))


def prepare_folders(batch: Batch) -> None:
    """Make the folders of all results.

    Raises:
        OutputError: one that cannot be made or written.
    """
    for folder in dict.fromkeys(job.target.parent for job in batch.jobs):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be made a folder for the results: {error.strerror}"
            ) from error
        if not os.access(folder, os.W_OK):
            raise OutputError(f"{folder}: the folder cannot be written; choose another with --output")


def _in_folder(
    folder: Path, output: Path | None, suffix: str, target_format: Format | None, recursive: bool
) -> Iterator[Job]:
    """The jobs of one input folder."""
    if output is None:
        named = (
            folder if folder.name not in ("", "..") else folder.resolve()
        )  # "." and ".." have no name of their own
        root = named.with_name(f"{named.name}{suffix or '_upscaled'}")
    else:
        root = output
        if format_of(output) and not output.is_dir():
            raise UsageError(
                f"'{folder}' is a folder, so --output must be a folder, not a file like '{output}'"
            )
    for source in _pictures(folder, recursive, leave_out=root.resolve()):
        yield Job(source, root / source.relative_to(folder).parent / _named(source, suffix, target_format))


def _file_target(
    source: Path, output: Path | None, suffix: str, target_format: Format | None, alone: bool
) -> Path:
    """Where the result of one input file goes."""
    if output is None:
        return source.with_name(_named(source, suffix, target_format))
    named_format = format_of(output)
    if output.is_dir() or named_format is None:
        return output / _named(source, suffix, target_format)
    if not alone:
        raise UsageError(f"several inputs need a folder as --output, not a file like '{output}'")
    if target_format is not None and target_format is not named_format:
        raise UsageError(f"--format {target_format.name} and --output '{output.name}' contradict each other")
    return output


def _named(source: Path, suffix: str, target_format: Format | None) -> str:
    """The file name of a result."""
    own = format_of(source)
    if own is not None and (target_format is own or (target_format is None and own.by_default)):
        return f"{source.stem}{suffix}{source.suffix}"
    return f"{source.stem}{suffix}{target_format.suffixes[0] if target_format else '.png'}"


def _pictures(folder: Path, recursive: bool, leave_out: Path) -> Iterator[Path]:
    """The picture files in ``folder`` by name, without junk, hidden files and the results of an earlier run."""
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(
            name
            for name in folders
            if recursive and not name.startswith(".") and name not in _JUNK_FOLDERS
            if (here / name).resolve() != leave_out
        )
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield here / name


def _nothing_in(folder: Path, recursive: bool) -> DataError:
    deeper = "" if recursive else "; --recursive also looks into its folders"
    kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
    return DataError(f"{folder}: the folder holds no pictures ({kinds}){deeper}")


def _check(jobs: Sequence[Job]) -> None:
    """Refuse what would lose a picture."""
    sources = {job.source.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        target = job.target.resolve()
        if target in sources:
            raise UsageError(
                f"the result of '{job.source}' would replace the input '{job.target}'; give a --suffix"
            )
        other = taken.setdefault(target, job.source)
        if other != job.source:
            raise UsageError(
                f"'{other}' and '{job.source}' would both become '{job.target}'; rename one of them"
            )
