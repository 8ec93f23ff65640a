"""Video: frames enlarged, time stamps, colour tags, audio and subtitles kept, an interrupted run resumed."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import polyres.cli
from polyres.errors import MissingExtraError, OutputError, PictureError
from polyres.model import ModelConfig, SRModel, build
from polyres.upscale import Target, Upscaler
from polyres.upscale import video as video_module
from polyres.upscale.video import upscale_video

av = pytest.importorskip("av", reason="needs the extra 'video'")

STAMPS = [0, 1, 2, 4, 5, 6, 9, 10, 11]


def tiny() -> SRModel:
    torch.manual_seed(0)
    config = {
        "encoder": {"name": "edsr", "options": {"channels": 4, "blocks": 1}},
        "upsampler": {"name": "igconv", "options": {"width": 8, "hidden_layers": 1, "base": "bilinear"}},
    }
    model = build(ModelConfig.model_validate(config)).eval()
    with torch.no_grad():  # bilinear enlargement, so that what comes out is known
        model.upsampler.kernels.layers[-1].weight.zero_()
        model.upsampler.kernels.layers[-1].bias.zero_()
    return model


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine frames of one colour each at uneven times, in BT.709, with a tone and a subtitle."""
    folder = tmp_path_factory.mktemp("video")
    subtitles = folder / "s.srt"
    subtitles.write_text("1\n00:00:00,100 --> 00:00:00,300\nhello\n")
    path = folder / "in.mkv"
    with av.open(str(subtitles)) as text, av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.options = 32, 24, "yuv420p", {"crf": "5"}
        for tag in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(stream.codec_context, tag, 1)
        sound = container.add_stream("aac", rate=44100)
        line = container.add_stream_from_template(text.streams.subtitles[0])
        container.metadata["title"] = "a test"
        for number, stamp in enumerate(STAMPS):
            pixels = np.broadcast_to(np.uint8([20 + 20 * number, 200 - 15 * number, 90]), (24, 32, 3)).copy()
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=1
            )
            frame.pts, frame.time_base = stamp, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        wave = np.sin(np.arange(4096) / 9).astype(np.float32)
        tone = av.AudioFrame.from_ndarray(np.stack((wave, wave)), format="fltp", layout="stereo")
        tone.sample_rate, tone.pts = 44100, 0
        container.mux(sound.encode(tone))
        container.mux(sound.encode())
        for packet in text.demux():
            if packet.dts is not None:
                packet.stream = line
                container.mux(packet)
    return path


def upscaler() -> Upscaler:
    return Upscaler(tiny(), device="cpu", dtype=torch.float32)


def frames(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def packets(path: Path, kind: str) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.dts is not None]


def test_frames_are_enlarged_and_all_else_is_kept(source: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(video_module, "SEGMENT", 4)
    target, told = tmp_path / "out.mkv", list[int]()
    upscale_video(upscaler(), source, target, Target(scale=2), lambda done, total: told.append(done))
    before, after = frames(source), frames(target)
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=1e-6)
    assert [time for time, _ in after] == pytest.approx([stamp / 25 for stamp in STAMPS], abs=1e-3)
    for (_, small), (_, large) in zip(before, after, strict=True):
        assert large.shape == (48, 64, 3)
        assert np.abs(large.mean((0, 1)) - small.mean((0, 1))).max() < 2.5
    assert told[-1] == 9
    with av.open(str(target)) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_range, context.colorspace, context.color_primaries, context.color_trc) == (
            1,
            1,
            1,
            1,
        )
        assert container.metadata["title"] == "a test"
    for kind in ("audio", "subtitles"):
        assert packets(target, kind) == packets(source, kind)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"]


def test_an_interrupted_run_goes_on_where_it_was(source: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(video_module, "SEGMENT", 4)
    calls, enlarge = list[int](), Upscaler.__call__

    def stop_in_the_second_segment(self: Upscaler, *args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return enlarge(self, *args, **options)

    monkeypatch.setattr(Upscaler, "__call__", stop_in_the_second_segment)
    target = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale_video(upscaler(), source, target, Target(scale=2))
    assert not target.exists()
    upscale_video(upscaler(), source, target, Target(scale=2))
    assert len(calls) == 6 + 5  # the first four are not made again
    whole = tmp_path / "whole.mkv"
    upscale_video(upscaler(), source, whole, Target(scale=2))
    for (time, got), (expected_time, expected) in zip(frames(target), frames(whole), strict=True):
        assert time == expected_time
        assert (got == expected).all()


def test_segments_of_another_request_are_not_used(source: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(video_module, "_join", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        upscale_video(upscaler(), source, tmp_path / "out.mkv", Target(scale=2))
    monkeypatch.undo()
    upscale_video(upscaler(), source, tmp_path / "out.mkv", Target(scale=3))
    assert frames(tmp_path / "out.mkv")[0][1].shape == (72, 96, 3)


def test_odd_sizes_and_mp4(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.mkv holds"):  # mp4 has no room for this kind of subtitles
        upscale_video(upscaler(), source, tmp_path / "out.mp4", Target(width=45))
    assert not (tmp_path / "out.mp4").exists()
    upscale_video(upscaler(), source, tmp_path / "odd.mkv", Target(width=45))
    assert frames(tmp_path / "odd.mkv")[0][1].shape == (34, 45, 3)


def test_what_is_no_video_is_refused(tmp_path: Path, source: Path) -> None:
    (tmp_path / "text.mkv").write_text("hello")
    for path in (tmp_path / "text.mkv", tmp_path / "missing.mkv"):
        with pytest.raises(PictureError, match="cannot be read as a video"):
            upscale_video(upscaler(), path, tmp_path / "out.mkv", Target(scale=2))
    with pytest.raises(OutputError, match="would replace the video"):
        upscale_video(upscaler(), source, source, Target(scale=2))


def test_the_command_and_the_missing_extra(source: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    polyres.save(tiny(), tmp_path / "tiny.safetensors")
    words = [
        str(source),
        "-o",
        str(tmp_path / "o.mkv"),
        "-n",
        str(tmp_path / "tiny.safetensors"),
        "--engine",
        "torch",
    ]
    monkeypatch.setattr(sys, "argv", ["polyres", "video", *words])
    with pytest.raises(SystemExit) as exit_:
        polyres.cli.main()
    assert not exit_.value.code
    assert "o.mkv" in capsys.readouterr().out
    assert len(frames(tmp_path / "o.mkv")) == 9
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"polyres\[video\]"):
        upscale_video(upscaler(), source, tmp_path / "p.mkv", Target(scale=2))
