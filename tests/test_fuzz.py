"""Damaged files are read or refused: none crashes, hangs, takes a gigabyte or raises anything but our errors."""

from __future__ import annotations

import collections
from collections.abc import Iterator

import fuzzing
import pytest

NAMES = ["avif", "bmp", "gif", "heic", "jp2", "jpeg", "jxl", "png", "ppm", "tiff", "webp"]


@pytest.fixture(scope="module")
def reader() -> Iterator[fuzzing.Reader]:
    reader = fuzzing.Reader()
    yield reader
    reader.close()


def outcomes(name: str, count: int, reader: fuzzing.Reader) -> collections.Counter[str]:
    found: collections.Counter[str] = collections.Counter()
    for index, (_, content) in enumerate(fuzzing.files(count, lambda each: each == name)):
        outcome = reader(content)
        found[outcome.kind] += 1
        assert outcome.kind in ("read", "refused"), f"{name} {index}: {outcome}"
    if not found:
        pytest.skip(f"needs the extra that reads {name}")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_read_or_refused(name: str, reader: fuzzing.Reader) -> None:
    pytest.importorskip("imagecodecs", reason="needs the depth extra to make the files")
    found = outcomes(name, 100, reader)
    assert found["refused"] > 5  # the damage is damage


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_damaged_files_are_read_or_refused(name: str, reader: fuzzing.Reader) -> None:
    pytest.importorskip("imagecodecs", reason="needs the depth extra to make the files")
    outcomes(name, 5000, reader)
