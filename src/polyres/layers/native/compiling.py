"""Compiling the kernels, once for each machine, with the C compiler that is there.

The library lies in the user's cache folder under a name made from all that it depends on: the sources, the compiler
and its flags, and the processor's instruction set. A machine that shares the folder but not these has its own.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from polyres.errors import OutputError
from polyres.files import replacing

#: Names under which a C compiler may be found, the system's own first.
COMPILERS = ("cc", "gcc", "clang")

_FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-pthread")
#: How compilers are asked for the instructions of this very machine; some know only one of these.
_TUNINGS = ("-march=native", "-mcpu=native")
_SECONDS = 120


class CompilationError(Exception):
    """There is no compiler, or it fails; the message says which, in a few words."""


def compiled(cache: Path | None = None) -> ctypes.CDLL:
    """The kernels' library, compiled now unless ``cache`` has it already.

    Args:
        cache: folder that keeps it; by default :func:`cache_folder`. One that cannot be written does no harm.

    Raises:
        CompilationError: no compiler, or one that fails.
    """
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise CompilationError("no C compiler")
    sources = sorted(Path(__file__).parent.glob("*.c"))
    kept = (cache or cache_folder()) / f"kernels-{_key(compiler)}.so"
    if kept.is_file():
        with suppress(OSError):  # damaged: made anew below
            return ctypes.CDLL(str(kept))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        fresh = Path(folder) / kept.name
        _compile(compiler, sources, fresh)
        with suppress(OSError, OutputError):
            kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with replacing(kept) as stream:
                stream.write(fresh.read_bytes())
        try:
            return ctypes.CDLL(str(fresh))
        except OSError as error:
            raise CompilationError(f"the compiled kernels do not load: {error}") from error


def cache_folder() -> Path:
    """``polyres`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polyres"


def _compile(compiler: str, sources: Sequence[Path], target: Path) -> None:
    """Compile ``sources`` into the shared library ``target``."""
    said = ""
    for tuning in _TUNINGS:
        command = [compiler, *_FLAGS, tuning, *map(str, sources), "-o", str(target)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CompilationError(f"{compiler} fails: {error}") from error
        if result.returncode == 0:
            return
        said = said or result.stderr
    raise CompilationError(
        f"{compiler} fails: {said.strip().splitlines()[-1] if said.strip() else 'silently'}"
    )


def _key(compiler: str) -> str:
    """A digest of everything that the library depends on."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.[ch]")):
        digest.update(path.read_bytes())
    with suppress(OSError, subprocess.TimeoutExpired):
        digest.update(subprocess.run([compiler, "--version"], capture_output=True, timeout=_SECONDS).stdout)
    digest.update(repr((_FLAGS, _TUNINGS, _instructions())).encode())
    return digest.hexdigest()[:20]


def _instructions() -> str:
    """The processor's architecture and, where the system lists them, its features."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.is_file() else []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.system()} {platform.machine()} {features}"
