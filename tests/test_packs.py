"""Where training pictures come from: packs, folders and LMDBs give the same crops, and damage is told."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyres.data.crops import Batch, CropSampler
from polyres.data.folder import PictureFolder
from polyres.data.lmdb_reader import LmdbPictures
from polyres.data.lowering import Bicubic
from polyres.data.pack import HEADER, PAGE, Pack
from polyres.data.packing import write_pack
from polyres.data.prefetch import Prefetched
from polyres.data.sources import Joined, load_pictures, open_source, open_sources
from polyres.errors import DataError, MissingExtraError, PictureError
from polyres.scale import Scale

WHOLE = slice(None)


def picture(height: int = 40, width: int = 56, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for seed in range(3):
        Image.fromarray(picture(40 + seed, seed=seed)).save(tmp_path / "pictures" / f"{seed}.png")
    return tmp_path / "pictures"


@pytest.fixture
def pack(folder: Path) -> Path:
    write_pack([folder], folder.parent / "train.pack")
    return folder.parent / "train.pack"


def write_lmdb(path: Path, pictures: dict[str, np.ndarray]) -> Path:
    """As BasicSR's tool does: PNG values, keys without ending, a list of shapes beside."""
    lmdb = pytest.importorskip("lmdb")
    lines = []
    with lmdb.open(str(path), map_size=2**24) as database, database.begin(write=True) as transaction:
        for name, pixels in pictures.items():
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG")
            transaction.put(name.encode(), stream.getvalue())
            lines.append(f"{name}.png ({pixels.shape[0]},{pixels.shape[1]},3) 1\n")
    (path / "meta_info.txt").write_text("".join(lines))
    return path


def test_a_pack_gives_the_pictures_back(folder: Path, pack: Path) -> None:
    opened = Pack(pack)
    assert [name.split("/")[-2:] for name in opened.names] == [["pictures", f"{i}.png"] for i in range(3)]
    for index in range(3):
        assert np.array_equal(opened.crop(index, WHOLE, WHOLE), picture(40 + index, seed=index))
        assert np.array_equal(
            opened.crop(index, slice(5, 9), slice(7, 30)), picture(40 + index, seed=index)[5:9, 7:30]
        )
    assert all(item.offset % PAGE == 0 for item in opened.items)
    assert list(opened.damaged()) == []
    again = pickle.loads(pickle.dumps(opened))
    assert np.array_equal(again.crop(2, slice(3), slice(4)), opened.crop(2, slice(3), slice(4)))
    assert len(pickle.dumps(opened)) < 1000


def test_a_pack_is_the_same_whenever_it_is_written(folder: Path, pack: Path) -> None:
    before = pack.read_bytes()
    assert write_pack([folder], pack).fingerprint == hashlib.sha256(_index(before)[0]).hexdigest()
    assert pack.read_bytes() == before
    Image.fromarray(picture(41, seed=9)).save(folder / "1.png")
    assert write_pack([folder], pack).fingerprint != hashlib.sha256(_index(before)[0]).hexdigest()


def test_a_crop_touches_only_its_rows(tmp_path: Path) -> None:
    if not Path("/proc/self/smaps").exists():
        pytest.skip("reads the resident memory of a mapping from /proc")
    (tmp_path / "large").mkdir()
    Image.fromarray(np.zeros((2000, 4000, 3), dtype=np.uint8)).save(tmp_path / "large" / "a.bmp")
    opened = write_pack([tmp_path / "large"], tmp_path / "large.pack")

    def resident() -> int:
        text = Path("/proc/self/smaps").read_text()
        return int(re.search(rf"{re.escape(str(opened.path))}\n.*?Rss: +(\d+) kB", text, re.DOTALL)[1]) * 1024

    assert resident() < 200_000
    opened.crop(0, slice(1000, 1048), slice(100, 148))
    # 48 rows of 12 kB, and what the system maps around them, at most 2 MB a side; the picture has 24 MB.
    assert 48 * 12_000 < resident() < 5_000_000
    opened.crop(0, WHOLE, WHOLE)
    assert resident() > 23_000_000


def test_changed_pixels_are_told_by_name(pack: Path) -> None:
    content = bytearray(pack.read_bytes())
    content[Pack(pack).items[1].offset + 100] ^= 1
    pack.write_bytes(content)
    assert list(Pack(pack).damaged()) == ["pictures/1.png"]


def _index(content: bytes) -> tuple[bytes, int]:
    _, _, _, offset, length, _ = HEADER.unpack(content[: HEADER.size])
    return content[offset : offset + length], offset


def _rewritten(content: bytes, **changes: object) -> bytes:
    """The pack with an index that lies, its digest made to fit."""
    index, offset = _index(content)
    items = json.loads(index)
    items[1].update(changes)
    lying = json.dumps(items).encode()
    magic, version, count, *_ = HEADER.unpack(content[: HEADER.size])
    head = HEADER.pack(magic, version, count, offset, len(lying), hashlib.sha256(lying).digest())
    return head + content[HEADER.size : offset] + lying


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda c: b"", "not a pack"),
        (lambda c: b"\x89PNG" + c[4:], "not a pack"),
        (lambda c: c[:40], "not a pack"),
        (lambda c: c[:-1], "truncated or damaged"),
        (lambda c: c + b"x", "truncated or damaged"),
        (lambda c: c[:8] + b"\x07" + c[9:], "version 7"),
        (lambda c: c[:12] + b"\x09" + c[13:], "9 pictures stated, 3 listed"),
        (lambda c: c[:-5] + b"#" + c[-4:], "damaged index"),
        (lambda c: _rewritten(c, height=10**9), "outside their place"),
        (lambda c: _rewritten(c, height=-1), "not whole numbers"),
        (lambda c: _rewritten(c, width=1.5), "not whole numbers"),
        (lambda c: _rewritten(c, offset=PAGE), "outside their place"),
        (lambda c: _rewritten(c, offset=PAGE * 3 + 1), "outside their place"),
        (lambda c: _rewritten(c, extra=1), "contradicts the file"),
    ],
)
def test_damaged_packs_are_refused(pack: Path, damage, words: str) -> None:
    pack.write_bytes(damage(pack.read_bytes()))
    with pytest.raises(DataError, match=words) as error:
        Pack(pack)
    assert str(pack) in str(error.value)


def test_no_byte_of_the_header_can_be_wrong(pack: Path) -> None:
    content = pack.read_bytes()
    for place in range(HEADER.size):
        pack.write_bytes(content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :])
        with pytest.raises(DataError):
            Pack(pack)


def test_pictures_that_cannot_be_packed_are_all_named(folder: Path) -> None:
    Image.fromarray(picture()[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    (folder / "0.png").write_bytes((folder / "0.png").read_bytes()[:200])
    output = folder.parent / "train.pack"
    with pytest.raises(PictureError, match=r"2 of 4 pictures .*0\.png.*deep\.png"):
        write_pack([folder], output)
    assert not output.exists()
    (folder.parent / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures in"):
        write_pack([folder.parent / "empty"], output)


def test_every_kind_of_source_gives_the_same_crops(folder: Path, pack: Path, tmp_path: Path) -> None:
    arrays = [picture(40 + seed, seed=seed) for seed in range(3)]
    database = write_lmdb(tmp_path / "x.lmdb", {str(seed): array for seed, array in enumerate(arrays)})
    sources = [
        PictureFolder(folder),
        PictureFolder(folder, memory=0),
        Pack(pack),
        LmdbPictures(database, memory=0),
    ]
    kinds = [type(open_source(path)) for path in (folder, pack, database)]
    assert kinds == [PictureFolder, Pack, LmdbPictures]
    expected = CropSampler(arrays, [Scale.of(2), Scale.of("3/2")], 12, 2)
    for source in sources:
        made = CropSampler(source, expected.scales, 12, 2).batch(3, 1)
        assert np.array_equal(made.low, expected.batch(3, 1).low)
        assert np.array_equal(made.high, expected.batch(3, 1).high)
        again = pickle.loads(pickle.dumps(source))
        assert np.array_equal(again.crop(1, WHOLE, WHOLE), arrays[1])
    assert len({source.fingerprint for source in sources[1:]}) == 3


def test_sources_are_joined_in_their_order(folder: Path, pack: Path) -> None:
    joined = open_sources([pack, folder])
    assert isinstance(joined, Joined)
    assert len(joined.names) == len(joined.sizes) == 6
    for index in range(6):
        expected = picture(40 + index % 3, seed=index % 3)
        assert np.array_equal(joined.crop(index, WHOLE, WHOLE), expected)
        assert joined.sizes[index] == expected.shape[:2]
    assert [p.shape[0] for p in load_pictures([pack, folder], at_most=4)] == [40, 41, 42, 40]
    assert load_pictures([]) == []


def test_a_folder_keeps_what_fits_into_memory(folder: Path) -> None:
    lazy = PictureFolder(folder, memory=picture(42).nbytes)
    lazy.crop(2, WHOLE, WHOLE)
    lazy.crop(0, WHOLE, WHOLE)
    for path in folder.iterdir():
        path.unlink()
    assert lazy.crop(2, WHOLE, WHOLE).shape == (42, 56, 3)
    with pytest.raises(PictureError, match=r"0\.png"):
        lazy.crop(0, WHOLE, WHOLE)


def test_a_damaged_picture_of_a_small_folder_is_told_at_once(folder: Path) -> None:
    content = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(PictureError, match=r"1\.png"):
        PictureFolder(folder)


def test_lmdbs_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    database = write_lmdb(tmp_path / "x.lmdb", {"a": picture()})
    listed = database / "meta_info.txt"
    for text, words in [("a.png 40 56", "line 1"), ("", "lists no pictures")]:
        listed.write_text(text)
        with pytest.raises(DataError, match=words):
            LmdbPictures(database)
    for text, words in [("b.png (40,56,3) 1", "not in the database"), ("a.png (40,57,3) 1", r"\(40, 57\)")]:
        listed.write_text(text)
        with pytest.raises(PictureError, match=words):
            LmdbPictures(database).crop(0, WHOLE, WHOLE)
    listed.unlink()
    with pytest.raises(DataError, match=r"meta_info\.txt"):
        LmdbPictures(database)
    (tmp_path / "data.mdb").write_bytes(b"nothing")
    (tmp_path / "meta_info.txt").write_text("a.png (40,56,3) 1")
    with pytest.raises(DataError, match="no LMDB"):
        LmdbPictures(tmp_path)


def test_an_lmdb_without_the_extra_tells_the_pip_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data.mdb").touch()
    (tmp_path / "meta_info.txt").write_text("a.png (40,56,3) 1")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(MissingExtraError, match=r"polyres\[lmdb\]"):
        open_source(tmp_path)


def test_small_pictures_are_named_or_left_out(folder: Path) -> None:
    Image.fromarray(picture(20, 30)).save(folder / "tiny.png")
    source = open_source(folder)
    with pytest.raises(DataError, match=r"1 of 4 pictures are too small.*tiny\.png \(30x20\).*skip_small"):
        CropSampler(source, [Scale.of(2)], 12, 2)
    sampler = CropSampler(source, [Scale.of(2)], 12, 2, skip_small=True)
    for step in range(8):
        assert sampler.batch(step, 0).high.shape == (2, 24, 24, 3)


@pytest.mark.parametrize("scale", ["2", "3", "3/2"])
def test_pillows_kernel_on_the_picture_equals_the_crop_of_pillows_lr(scale: str) -> None:
    exact, whole = Scale.of(scale), picture(48, 60)
    rows, columns = (int(side / exact.y) for side in whole.shape[:2])
    low = np.asarray(Image.fromarray(whole).resize((columns, rows), Image.Resampling.BICUBIC))
    sampler = CropSampler([whole], [exact], 6, 6, lower=Bicubic("pil"))
    windows = np.lib.stride_tricks.sliding_window_view(low, (6, 6, 3)).reshape(-1, 6, 6, 3)
    for made in sampler.batch(0, 0).low:
        turned = [np.rot90(made, k) for k in range(4)]
        turned += [t.transpose(1, 0, 2) for t in turned]
        assert any((windows == t).all(axis=(1, 2, 3)).any() for t in turned)


def test_lr_of_the_crop_differs_at_its_border_only() -> None:
    def low(lower: Bicubic) -> np.ndarray:
        return CropSampler([picture(80, 80)], [Scale.of(2)], 16, 8, lower=lower).batch(0, 0).low

    whole, crop, double = (low(b) for b in (Bicubic(), Bicubic(on="crop"), Bicubic("matlab-double")))
    assert np.array_equal(whole[:, 2:-2, 2:-2], crop[:, 2:-2, 2:-2])
    assert not np.array_equal(whole, crop)
    assert 0.02 < (whole != double).mean() < 0.4
    assert np.abs(whole.astype(int) - double).max() <= 2


@pytest.mark.parametrize(("workers", "processes"), [(0, False), (2, False), (1, True)])
def test_workers_do_not_change_the_batches(pack: Path, workers: int, processes: bool) -> None:
    sampler = CropSampler(Pack(pack), [Scale.of(2), Scale.of(3)], 6, 2)
    ahead = Prefetched(sampler, micros=2, workers=workers, processes=processes)
    for step, micro in [(0, 0), (0, 1), (1, 0), (7, 1)]:
        assert np.array_equal(ahead.batch(step, micro).low, sampler.batch(step, micro).low)
    ahead.close()


class Deadly:
    """Ends the process that asks it for a batch, as the system's memory killer does."""

    def batch(self, step: int, micro: int) -> Batch:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_dead_worker_is_told() -> None:
    ahead = Prefetched(Deadly(), micros=1, workers=1, processes=True)
    with pytest.raises(DataError, match=r"died.*--resume"):
        ahead.batch(0, 0)
    ahead.close()


def test_a_failing_worker_tells_its_own_error(folder: Path) -> None:
    source = PictureFolder(folder, memory=0)
    ahead = Prefetched(CropSampler(source, [Scale.of(2)], 6, 2), micros=1)
    for path in folder.iterdir():
        path.write_bytes(b"no longer a picture")
    with pytest.raises(PictureError, match=r"\.png"):
        ahead.batch(0, 0)
    ahead.close()


def test_a_run_reads_packs_and_folders_with_worker_processes(folder: Path, pack: Path) -> None:
    from polyres.training.batches import open_batches
    from polyres.training.config import RunConfig
    from polyres.training.processes import Processes

    content = {
        "model": {"encoder": {"name": "edsr-baseline"}, "upsampler": {"name": "spconv"}},
        "data": {
            "train": [str(pack), str(folder)],
            "patch": 8,
            "batch": 2,
            "scales": [2],
            "low": {"kernel": "pil", "on": "crop"},
            "workers": 1,
            "worker_processes": True,
        },
        "output": str(folder.parent / "out"),
        "steps": 1,
    }
    config = RunConfig.model_validate(content)
    source = open_sources(config.data.train)
    batches = open_batches(source, config, Processes())
    expected = CropSampler(source, [Scale.of(2)], 8, 2, lower=Bicubic("pil", "crop")).batch(0, 0)
    assert np.array_equal(batches.batch(0, 0).low, expected.low)
    batches.close()
