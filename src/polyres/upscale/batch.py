"""Batches: which pictures are enlarged and where each result goes, settled before any work is done."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyres.errors import DataError, OutputError, PictureError, PolyresError, UsageError
from polyres.files import make_folder
from polyres.pictures.formats import SUFFIXES, Format, format_of
from polyres.upscale.naming import NameTemplate

#: In place of a file: standard input, or standard output.
PIPE = Path("-")

#: What systems leave in folders, lower case. Given by name, as a shell does for ``photos/*``, it is passed over.
_JUNK_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", "icon\r"})
_JUNK_FOLDERS = frozenset({"__MACOSX", "$RECYCLE.BIN", "System Volume Information"})


@dataclass(frozen=True)
class Job:
    """One picture: where it is read from and where its result goes.

    Attributes:
        source: a file, or :data:`PIPE`.
        target: a file, or :data:`PIPE`.
        root: the folder that the target must not leave, whatever links there are; None if a person named it.
    """

    source: Path
    target: Path
    root: Path | None = None


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
    template: NameTemplate | None = None,
    size: str = "",
) -> Batch:
    """The jobs for ``inputs``, files and folders.

    Without ``output`` the result of a file lies beside it, and those of a folder ``pictures`` in a new folder
    beside that, called ``pictures`` and the suffix. An ``output`` with the suffix of a picture is the file to
    write, if there is one input and it is a file; any other is a folder.

    Args:
        inputs: a folder stands for the pictures in it, junk and hidden files left out; a file is taken as it is;
            a name with ``*``, ``?``, ``[`` or ``**`` that is no file stands for what it matches.
        output: a folder, or a file.
        suffix: put after the name of each picture: ``cat.jpg`` becomes ``cat_x2.jpg``.
        target_format: of the results; by default the picture's own, or PNG if that is not written, or not well (GIF).
        recursive: also take the folders inside folders; the results mirror the tree.
        template: names of the results, instead of ``suffix``.
        size: what the template calls ``{size}``.

    Raises:
        UsageError: two pictures that would become one file, or a result that would replace an input.
    """
    if "/" in suffix or os.sep in suffix:
        raise UsageError(f"a suffix is part of a file's name and has no slashes; got '{suffix}'")
    inputs, failures = _expanded(inputs)
    named = _Naming(template or NameTemplate("{stem}" + _escaped(suffix) + "{ext}"), size, target_format)
    jobs: list[Job] = []
    for given in inputs:
        if given.is_dir():
            found = list(_in_folder(given, output, suffix or _label(size), named, recursive))
            if not found:
                failures.append((given, _nothing_in(given, recursive)))
            jobs += found
        elif given == PIPE:
            jobs.append(_of_pipe(output, len(inputs) == 1))
        elif not given.exists():
            failures.append((given, PictureError(f"{given}: no such file or folder; expected pictures")))
        else:
            jobs.append(_of_file(given, output, named, len(inputs) == 1))
    jobs = list(dict.fromkeys(jobs))
    _check(jobs)
    return Batch(tuple(jobs), tuple(failures))


def prepare_folders(batch: Batch) -> None:
    """Make the folders of all results.

    Raises:
        OutputError: one that cannot be made or written, or that a link leads out of the folder for the results.
    """
    for folder, root in dict.fromkeys(
        (job.target.parent, job.root) for job in batch.jobs if job.target != PIPE
    ):
        make_folder(folder)
        if not os.access(folder, os.W_OK):
            raise OutputError(f"{folder}: the folder cannot be written; choose another with --output")
        if root is not None and not _real(folder).is_relative_to(_real(root)):
            raise OutputError(
                f"{folder}: a link leads out of '{root}', where results belong; remove the link"
            )


@dataclass(frozen=True)
class _Naming:
    """How results are called."""

    template: NameTemplate
    size: str
    target_format: Format | None

    def of(self, source: Path) -> str:
        """The file name of the result of ``source``."""
        own, wanted = format_of(source), self.target_format
        same = own is not None and (wanted is own or (wanted is None and own.by_default))
        ext = source.suffix if same else wanted.suffixes[0] if wanted else ".png"
        return self.template.name(source.stem, self.size, ext)


def _expanded(inputs: Sequence[Path]) -> tuple[list[Path], list[tuple[Path, PolyresError]]]:
    """The inputs with patterns replaced by what they match and junk left out, and patterns that match nothing."""
    found: list[Path] = []
    failures: list[tuple[Path, PolyresError]] = []
    for given in inputs:
        if given == PIPE or given.exists() or not glob.has_magic(str(given)):
            found += [] if _is_junk(given) else [given]
            continue
        # Path.glob takes no absolute pattern.
        matches = sorted(Path(name) for name in glob.glob(str(given), recursive=True))  # noqa: PTH207
        pictures = [path for path in matches if path.is_file() and path.suffix.lower() in SUFFIXES]
        if not pictures:
            failures.append(
                (given, PictureError(f"{given}: no such file, and no picture matches the pattern"))
            )
        found += pictures
    return found, failures


def _is_junk(path: Path) -> bool:
    return path.name.lower() in _JUNK_FILES or path.name.startswith("._")


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _label(size: str) -> str:
    return f"_{size}" if size else ""


def _in_folder(
    folder: Path, output: Path | None, suffix: str, named: _Naming, recursive: bool
) -> Iterator[Job]:
    """The jobs of one input folder; ``suffix`` is for the name of a new folder beside it."""
    if output is None:
        called = folder if folder.name not in ("", "..") else folder.resolve()  # "." and ".." have no name
        root = called.with_name(f"{called.name}{suffix or '_upscaled'}")
    else:
        root = output
        if output == PIPE or (format_of(output) and not output.is_dir()):
            raise UsageError(
                f"'{folder}' is a folder, so --output must be a folder, not a file like '{output}'"
            )
    for source in _pictures(folder, recursive, leave_out=_real(root)):
        yield Job(source, root / source.relative_to(folder).parent / named.of(source), root)


def _of_file(source: Path, output: Path | None, named: _Naming, alone: bool) -> Job:
    """The job of one input file."""
    if output is None:
        return Job(source, source.with_name(named.of(source)))
    named_format = format_of(output)
    if output != PIPE and (output.is_dir() or named_format is None):
        return Job(source, output / named.of(source), output)
    if not alone:
        raise UsageError(f"several inputs need a folder as --output, not a file like '{output}'")
    wanted = named.target_format
    if output != PIPE and wanted is not None and wanted is not named_format:
        raise UsageError(f"--format {wanted.name} and --output '{output.name}' contradict each other")
    return Job(source, output)


def _pictures(folder: Path, recursive: bool, leave_out: Path) -> Iterator[Path]:
    """The picture files in ``folder`` by name, without junk, hidden files and the results of an earlier run."""
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(
            name
            for name in folders
            if recursive and not name.startswith(".") and name not in _JUNK_FOLDERS
            if _real(here / name) != leave_out
        )
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield here / name


def _nothing_in(folder: Path, recursive: bool) -> DataError:
    deeper = "" if recursive else "; --recursive also looks into its folders"
    kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
    return DataError(f"{folder}: the folder holds no pictures ({kinds}){deeper}")


def _of_pipe(output: Path | None, alone: bool) -> Job:
    """The job of standard input."""
    if not alone:
        raise UsageError("standard input is one picture, and goes with no other input")
    if output is not None and output != PIPE and (output.is_dir() or format_of(output) is None):
        raise UsageError(
            f"a picture from standard input has no name; give a file as --output, not '{output}'"
        )
    return Job(PIPE, output or PIPE)


def _check(jobs: Sequence[Job]) -> None:
    """Refuse what would lose a picture."""
    sources = {_real(job.source) for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        target = _real(job.target)
        if job.target != PIPE and target in sources:
            raise UsageError(
                f"the result of '{job.source}' would replace the input '{job.target}'; give a --suffix"
            )
        other = taken.setdefault(target, job.source)
        if other != job.source:
            raise UsageError(
                f"'{other}' and '{job.source}' would both become '{job.target}'; rename one of them"
            )


def _real(path: Path) -> Path:
    """``path`` without links; as far as it goes where they lead in a circle, which ``Path.resolve`` fails on."""
    return Path(os.path.realpath(path))
