"""Files of a downloaded data set, loose or inside zip and tar archives, one after the other."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from polyres.errors import DataError

#: No picture file of these sets comes near this length; more is not what it says it is.
MAX_BYTES = 256 * 1024**2

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


def files_in(folder: Path, wanted: str) -> Iterator[tuple[str, bytes]]:
    """(path, content) of every file that ends in ``wanted`` below ``folder`` and in the archives there.

    Paths begin with the name of ``folder``; the path of a file in an archive begins with the archive's own.

    Raises:
        DataError: no folder, a damaged archive, or a file that is too long; named.
    """
    if not folder.is_dir():
        raise DataError(f"'{folder}' is not a folder; give the one that holds the downloaded files")
    for path in sorted(folder.rglob("*")):
        name, shown = path.name.lower(), f"{folder.resolve().name}/{path.relative_to(folder).as_posix()}"
        try:
            if name.endswith(".zip") and path.is_file():
                yield from _zipped(path, shown, wanted)
            elif name.endswith(_TAR) and path.is_file():
                yield from _tarred(path, shown, wanted)
            elif name.endswith(wanted) and path.is_file():
                _refuse_long(shown, path.stat().st_size)
                yield shown, path.read_bytes()
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError, OSError) as error:
            raise DataError(f"'{path}' cannot be read ({error}): download it again") from error


def _zipped(path: Path, shown: str, wanted: str) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.lower().endswith(wanted) and not member.is_dir():
                name = f"{shown}/{member.filename}"
                _refuse_long(name, member.file_size)
                yield name, archive.read(member)


def _tarred(path: Path, shown: str, wanted: str) -> Iterator[tuple[str, bytes]]:
    # As a stream: a compressed archive cannot be entered in the middle.
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.name.lower().endswith(wanted) else None
            if stream is not None:
                name = f"{shown}/{member.name}"
                _refuse_long(name, member.size)
                yield name, stream.read()


def _refuse_long(name: str, length: int) -> None:
    if length > MAX_BYTES:
        raise DataError(f"'{name}' is {length} bytes long, too many for a picture of this set: remove it")
