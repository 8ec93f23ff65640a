"""Data sets are looked through honestly: kernels recognised, displacement measured, damage and duplicates named."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from polyres.cli import app
from polyres.data import find_pairs, resize
from polyres.data.checking import check
from polyres.data.layouts import find_highs, find_scales
from polyres.data.likeness import distances, perceptual_hash, turned_hashes
from polyres.data.makers import MAKERS
from polyres.data.packing import write_pack
from polyres.data.preparing import prepare, ranges
from polyres.data.public import find_public_set
from polyres.data.sources import checksum
from polyres.data.verifying import measure_shift, public_checksums, recognise, verdict
from polyres.data.windows import Windows
from polyres.errors import ConfigError, DataError, UnknownNameError
from polyres.scale import Scale

#: Of OpenCV 5.0.0's cv2.resize of ``noise()`` below; pip install opencv-python-headless to make them again.
OPENCV = [
    ("opencv-cubic", "2", "4fefce7acee5a88f0f365fe01545750e"),
    ("opencv-area", "2", "5237a763a77a8dfbc18aa05ec2925bc9"),
    ("opencv-nearest", "2", "80c50533c634ae381f2b8a928a7fcb8a"),
    ("opencv-cubic", "3", "180a5e4331ecb1f622d0a66206936bc1"),
    ("opencv-area", "3", "27e7a7a7f620230ba65c70f05c230b6e"),
    ("opencv-nearest", "3", "4d339b4155d9cea7ba13123b93e31e82"),
    ("opencv-cubic", "4", "a548b72911290e18b21fd729477c95ff"),
    ("opencv-area", "4", "2d7baa893e24d297f407aa783db97b78"),
    ("opencv-nearest", "4", "25d2559340d62321095521e05b2a15e2"),
    ("opencv-cubic", "3/2", "214b86a70109635918a9eade02af8303"),
    ("opencv-area", "3/2", "1b5ec730fc88226d028e36f54734cc2c"),
    ("opencv-nearest", "3/2", "e896fc9f221395435361fa216e6cbc2c"),
]


def noise() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (48, 72, 3), dtype=np.uint8)


def scene(seed: int = 0, height: int = 120, width: int = 144) -> np.ndarray:
    """Smooth shapes with edges: like a photograph to hashes and phases."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (10, 12, 3), dtype=np.uint8)
    picture = resize(coarse, size=(height, width))
    for _ in range(12):
        top, left = random.integers(height - 20), random.integers(width - 20)
        picture[top : top + random.integers(4, 20), left : left + random.integers(4, 20)] = random.integers(
            256, size=3
        )
    return picture


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def write_set(folder: Path, maker: str = "matlab", count: int = 2, scale: int = 2) -> Path:
    make = next(each.make for each in MAKERS if each.name == maker)
    for seed in range(count):
        save(folder / "HR" / f"{seed}.png", scene(seed))
        low = make(scene(seed), Scale.of(scale))
        save(folder / "LR_bicubic" / f"X{scale}" / f"{seed}x{scale}.png", low)
    return folder


@pytest.mark.parametrize(("name", "scale", "digest"), OPENCV)
def test_opencvs_kernels_are_equal_to_the_library(name: str, scale: str, digest: str) -> None:
    maker = next(each for each in MAKERS if each.name == name)
    assert checksum(maker.make(noise(), Scale.of(scale))) == digest


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("maker", [each.name for each in MAKERS])
def test_every_kernel_is_recognised(tmp_path: Path, maker: str, scale: int) -> None:
    folder = write_set(tmp_path / "set", maker, scale=scale)
    found = verdict(find_pairs(folder, [Scale.of(scale)]))
    assert (found.maker, found.exact) == (maker, 2)
    assert bool(found.shifted) == (maker == "opencv-nearest")


def test_a_recompressed_lr_is_near_its_kernel_but_not_equal(tmp_path: Path) -> None:
    folder = write_set(tmp_path, "pil")
    for path in (folder / "LR_bicubic" / "X2").iterdir():
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    found = verdict(find_pairs(folder, [Scale.of(2)]))
    assert found.exact == 0
    assert found.pictures[0].psnr < 50
    assert found.pictures[0].equal < 0.9


@pytest.mark.parametrize("shift", [(1, 0), (0, -1), (3, 2), (-4, 6)])
def test_displacement_is_measured_below_a_pixel(shift: tuple[int, int]) -> None:
    high = resize(scene(3), scale=2)
    low = resize(high, scale="1/4")
    moved = resize(np.roll(high, shift, axis=(0, 1)), scale="1/4")
    assert measure_shift(low, moved) == pytest.approx((shift[0] / 4, shift[1] / 4), abs=0.06)
    assert measure_shift(low, low) == pytest.approx((0, 0), abs=1e-9)
    assert measure_shift(0 * low, 0 * low) == (0, 0)


def test_a_pair_without_lr_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "HR" / "a.png", scene())
    with pytest.raises(DataError, match="no LR file"):
        recognise(find_pairs(tmp_path, [Scale.of(2)])[0])


def test_public_checksums_are_those_of_the_shared_pictures(shared: Path) -> None:
    from polyres.data import read_rgb

    known = public_checksums()
    assert len(known) == 4 * 119
    for kind, name in [("HR", "baby"), ("LR_bicubic/X3", "birdx3")]:
        path = shared / "data" / "bench" / "Set5" / kind / f"{name}.webp"
        assert known[checksum(read_rgb(path))] == f"Set5/{kind.removeprefix('LR_bicubic/')}"


def test_scales_and_hr_pictures_are_found_in_every_layout(tmp_path: Path) -> None:
    write_set(tmp_path / "a" / "One")
    write_set(tmp_path / "a" / "Two", scale=3)
    (tmp_path / "a" / "Two" / "X2024-01").mkdir()
    assert [str(scale) for scale in find_scales(tmp_path / "a")] == ["2", "3"]
    assert [p.parts[-3:] for p in find_highs(tmp_path / "a")] == [
        (name, "HR", f"{i}.png") for name in ("One", "Two") for i in (0, 1)
    ]
    save(tmp_path / "b" / "img_001_SRF_4_HR.png", scene())
    save(tmp_path / "b" / "img_001_SRF_4_LR.png", scene())
    assert [str(scale) for scale in find_scales(tmp_path / "b")] == ["4"]
    assert [p.name for p in find_highs(tmp_path / "b")] == ["img_001_SRF_4_HR.png"]


def test_a_clean_set_has_no_findings(tmp_path: Path) -> None:
    found = check([write_set(tmp_path / "set")])
    assert found.findings == []
    assert (found.pictures, found.smallest, found.verdicts[0].maker) == (2, (120, 144), "matlab")


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    train, test = tmp_path / "train", tmp_path / "test"
    for seed in range(4):
        save(train / f"{seed}.png", scene(seed))
    save(train / "twin.png", scene(0))
    save(train / "alpha.png", np.dstack([scene(), scene()[..., :1]]))
    (train / "broken.png").write_bytes((train / "1.png").read_bytes()[:500])
    save(test / "same.png", scene(1))
    mirrored = Image.fromarray(scene(2)[:, ::-1]).resize((200, 160))
    mirrored.save(test / "mirrored.jpg", quality=80)
    save(test / "other.png", scene(9))
    told = [(each.kind, each.message) for each in check([train], [test]).findings]
    assert sorted(kind for kind, _ in told) == [
        "duplicate",
        "in test set",
        "near test set",
        "unreadable",
        "unreadable",
    ]
    text = dict(sorted(told))
    assert "twin.png" in text["duplicate"]
    assert "1.png" in text["in test set"]
    assert "same.png" in text["in test set"]
    assert "2.png" in text["near test set"]
    assert "mirrored.jpg" in text["near test set"]
    assert {"alpha.png", "broken.png"} == {
        n for n in ("alpha.png", "broken.png") if any(n in m for _, m in told)
    }


def test_wrong_pairs_are_told(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", count=3)
    low = folder / "LR_bicubic" / "X2"
    save(low / "0x2.png", scene(0, 50, 60))
    save(low / "1x2.png", np.roll(resize(scene(1), scale="1/2"), 1, axis=0))
    told = [(each.kind, each.message) for each in check([folder]).findings]
    assert [kind for kind, _ in told] == ["pairs", "shifted"]
    assert "0x2.png" in told[0][1]
    assert "displaced by +0.98 rows and +0.00 columns" in told[1][1]
    (low / "2x2.png").unlink()
    told = [(each.kind, each.message) for each in check([folder]).findings]
    assert told[0][0] == "pairs"
    assert "no partner" in told[0][1]


def test_packs_are_checked_to_the_last_pixel(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", scene())
    pack = write_pack([tmp_path / "a"], tmp_path / "a.pack")
    assert check([pack.path]).findings == []
    content = bytearray(pack.path.read_bytes())
    content[pack.items[0].offset] ^= 255
    pack.path.write_bytes(content)
    assert [each.kind for each in check([pack.path]).findings] == ["damaged"]


def test_nothing_to_check_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pictures"):
        check([tmp_path])
    with pytest.raises(DataError, match="not a folder"):
        check([tmp_path / "missing"])


def test_hashes_hold_against_resizing_and_tell_scenes_apart() -> None:
    hashes = [perceptual_hash(scene(seed)) for seed in range(6)]
    smaller = perceptual_hash(resize(scene(0), scale="1/2"))
    near = distances(np.array(hashes, dtype=np.uint64), smaller)
    assert near[0] <= 4
    assert near[1:].min() > 12
    assert perceptual_hash(np.rot90(scene(1))) in turned_hashes(scene(1))
    assert perceptual_hash(np.full((50, 50, 3), 9, dtype=np.uint8)) is None


def png(height: int = 36, width: int = 48, seed: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(
        stream, "PNG"
    )
    return stream.getvalue()


def downloads(folder: Path) -> Path:
    """DIV2K as its archives hold it, cut short, one of them unpacked."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "DIV2K_train_HR.zip", "w") as archive:
        for number in (1, 2, 4):
            archive.writestr(f"DIV2K_train_HR/{number:04}.png", png(seed=number))
        archive.writestr("__MACOSX/._0001.png", b"no picture")
        archive.writestr("../../DIV2K_train_HR/0003.png/evil.png", b"no picture")
    with tarfile.open(folder / "DIV2K_valid_HR.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("DIV2K_valid_HR/0801.png")
        entry.size = len(png(60, 60))
        archive.addfile(entry, io.BytesIO(png(60, 60)))
    low = folder / "unpacked" / "DIV2K_train_LR_bicubic" / "X2"
    low.mkdir(parents=True)
    (low / "0001x2.png").write_bytes(png(18, 24))
    return folder


def test_div2k_is_sorted_and_what_is_missing_named(tmp_path: Path) -> None:
    output = tmp_path / "sorted"
    done = prepare(find_public_set("div2k"), downloads(tmp_path / "in"), output)
    assert done.pictures == {"DIV2K_train_HR": 3, "DIV2K_train_LR_bicubic/X2": 1, "DIV2K_valid_HR": 1}
    assert (output / "DIV2K_train_HR" / "0004.png").read_bytes() == png(seed=4)
    assert (output / "DIV2K_valid_HR" / "0801.png").read_bytes() == png(60, 60)
    assert ranges(done.missing["DIV2K_train_HR"]) == "3, 5-800"
    assert ranges(done.missing["DIV2K_train_LR_bicubic/X2"]) == "2-800"
    assert len(done.missing["DIV2K_valid_HR"]) == 99
    assert sorted(p.name for p in tmp_path.rglob("*.png") if "in" not in p.parts) == [
        "0001.png", "0001x2.png", "0002.png", "0004.png", "0801.png",
    ]  # fmt: skip
    before = (output / "DIV2K_train_HR" / "0001.png").stat().st_mtime_ns
    prepare(find_public_set("DIV2K"), tmp_path / "in", output)
    assert (output / "DIV2K_train_HR" / "0001.png").stat().st_mtime_ns == before


def test_sub_images_of_hr_and_lr_lie_on_each_other(tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "sorted"
    for number, (height, width) in enumerate([(65, 77), (20, 90)], 1):
        high = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        save(folder / "DIV2K_train_HR" / f"{number:04}.png", high)
        save(
            folder / "DIV2K_train_LR_bicubic" / "X2" / f"{number:04}x2.png",
            high[: height // 2 * 2 : 2, : width // 2 * 2 : 2],
        )
    done = prepare(find_public_set("DIV2K"), folder, output, Windows(36, 24))
    assert sorted(Path(path).name for path in done.small) == ["0002.png", "0002x2.png"]
    highs = sorted((output / "DIV2K_train_sub_HR").iterdir())
    assert [p.name for p in highs] == [f"0001_s{n:03}.png" for n in range(1, 7)]
    for path in highs:
        low = output / "DIV2K_train_sub_LR_bicubic" / "X2" / f"{path.stem}x2.png"
        assert np.array_equal(np.asarray(Image.open(path))[::2, ::2], np.asarray(Image.open(low)))
    assert len(find_pairs(output, [Scale.of(2)])) == 2 + 6


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        ("Flickr2K", "in/Flickr2K.tar/Flickr2K/Flickr2K_HR/000007.png", ("train", "000007", None)),
        ("Flickr2K", "Flickr2K/Flickr2K_LR_bicubic/X3/000007x3.png", ("train", "000007", 3)),
        ("Flickr2K", "Flickr2K/Flickr2K_LR_unknown/X3/000007x3.png", None),
        ("LSDIR", "in/shard-00.tar.gz/0001000/0000001.png", ("train", "0000001", None)),
        ("LSDIR", "in/X4/train/0001000/0000001x4.png", ("train", "0000001", 4)),
        ("LSDIR", "in/val1.tar.gz/val1/HR/val/0000003.png", ("valid", "0000003", None)),
        ("LSDIR", "in/val1/X2/val/0000003x2.png", ("valid", "0000003", 2)),
        ("LSDIR", "in/notes/figure.png", None),
        ("DIV2K", "DIV2K_valid_LR_bicubic/X4/0801x4.png", ("valid", "0801", 4)),
        ("DIV2K", "DIV2K_train_LR_wild/0001x4w1.png", None),
    ],
)
def test_files_of_public_sets_find_their_place(name: str, path: str, expected: object) -> None:
    place = find_public_set(name).place(path)
    assert (None if place is None else (place.split, place.number, place.scale)) == expected


def test_what_cannot_be_prepared_is_told(tmp_path: Path) -> None:
    public, folder = find_public_set("DIV2K"), tmp_path / "in"
    with pytest.raises(DataError, match="not a folder"):
        prepare(public, folder, tmp_path / "out")
    folder.mkdir()
    with pytest.raises(DataError, match="no pictures of DIV2K"):
        prepare(public, folder, tmp_path / "out")
    for name in ("a.zip", "b.tar.gz"):
        path = folder / name
        path.write_bytes(b"half a download")
        with pytest.raises(DataError, match=rf"{name}.*download it again"):
            prepare(public, folder, tmp_path / "out")
        path.unlink()
    with pytest.raises(UnknownNameError, match="Did you mean 'DIV2K'"):
        find_public_set("DIV2")
    for side, step in [(100, 24), (48, 0), (24, 48)]:
        with pytest.raises(ConfigError, match="multiples of 12"):
            Windows(side, step)


def test_the_commands_say_what_they_found(tmp_path: Path) -> None:
    run, folder = CliRunner(), write_set(tmp_path / "set", "pil")
    assert "LR by pil, equal in every value" in run.invoke(app, ["data", "check", str(folder)]).output
    assert "equal to no known public set" in run.invoke(app, ["data", "verify", str(folder)]).output
    packed = run.invoke(app, ["data", "pack", str(folder / "HR"), "-o", str(tmp_path / "a.pack")])
    assert "2 pictures" in packed.output
    shutil.copy(folder / "HR" / "0.png", folder / "HR" / "copy.png")
    shutil.copy(folder / "LR_bicubic" / "X2" / "0x2.png", folder / "LR_bicubic" / "X2" / "copyx2.png")
    failed = run.invoke(app, ["data", "check", str(folder), "--against", str(tmp_path / "a.pack")])
    assert isinstance(failed.exception, DataError)
    assert failed.output.count("in test set: ") == 2
    assert "duplicate: " in failed.output
    sorted_ = ["data", "prepare", "DIV2K", str(downloads(tmp_path / "in")), "-o", str(tmp_path / "out")]
    prepared = run.invoke(app, sorted_)
    assert isinstance(prepared.exception, DataError)
    assert "DIV2K_train_HR: 3, 5-800" in prepared.output
