"""Video: frames enlarged one by one, everything else carried over; an interrupted run goes on where it was."""

from __future__ import annotations

import heapq
import json
import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np

from polyres.errors import MissingExtraError, OutputError, PictureError
from polyres.files import replacing
from polyres.pictures import Picture
from polyres.upscale.foreign import fingerprint
from polyres.upscale.targets import Target
from polyres.upscale.upscaler import Upscaler

#: Frames that are encoded together: what is lost, at most, when a run is interrupted.
SEGMENT = 48

#: H.264 quality: lower is better; at this one hardly anybody sees a difference.
QUALITY = 16

#: Called with the frames done and, where the file tells, the frames there are.
Progress = Callable[[int, int | None], None]

#: Colour tags of a stream, carried over as they are.
_TAGS = ("color_range", "colorspace", "color_primaries", "color_trc")

#: FFmpeg's colour spaces by the numbers that its scaler knows them by, where these differ: unknown, SMPTE 170M.
_SCALER_SPACES = {0: 5, 2: 5, 6: 5}


def upscale_video(
    upscaler: Upscaler,
    source: Path,
    target: Path,
    wanted: Target,
    on_progress: Progress = lambda done, total: None,
) -> None:
    """Enlarge the frames of ``source`` into ``target`` (H.264 in the container that its suffix names).

    Time stamps, colour tags and pixel aspect of the video, all audio and subtitle streams, and the file's metadata are
    carried over. Frames are worked on with 8 bits a colour. Finished segments are kept in a folder beside ``target``
    until it is complete, and taken from there if the run is started again.

    Args:
        upscaler: what enlarges each frame.
        source: a file that FFmpeg reads.
        target: file to write; mkv holds any stream, mp4 not all.
        wanted: the size.
        on_progress: called with the frames done and, where the file tells, the frames there are.

    Raises:
        MissingExtraError: the ``video`` extra is not installed.
        PictureError: ``source`` is no video, or is damaged.
        OutputError: ``target`` cannot be written, or cannot hold a stream of ``source``.
    """
    av = _pyav()
    if target.resolve() == source.resolve():
        raise OutputError(f"{target}: the result would replace the video; choose another name")
    parts = target.with_name(f"{target.name}.parts")
    try:
        with av.open(str(source)) as container:
            if not container.streams.video:
                raise PictureError(f"{source}: holds no video")
            stream = container.streams.video[0]
            _prepare(parts, upscaler, source, wanted)
            if stream.frames:
                upscaler.expect(repeat((stream.height, stream.width), stream.frames), wanted)
            segments = _segments(av, container, stream, parts, upscaler, wanted, on_progress)
    except (av.FFmpegError, OSError) as error:
        raise PictureError(f"{source}: cannot be read as a video: {error}") from error
    if not segments:
        raise PictureError(f"{source}: holds no frames")
    try:
        _join(av, source, target, segments)
    except (av.FFmpegError, ValueError) as error:
        target.unlink(missing_ok=True)
        raise OutputError(f"{target}: cannot be written: {error}; .mkv holds streams of any kind") from error
    shutil.rmtree(parts)


def _prepare(parts: Path, upscaler: Upscaler, source: Path, wanted: Target) -> None:
    """The folder for segments; those of another video, size or network are removed."""
    status = source.stat()
    about = [
        str(source.resolve()),
        status.st_size,
        status.st_mtime_ns,
        repr(wanted),
        fingerprint(upscaler.model),
    ]
    note = parts / "about.json"
    if not note.is_file() or json.loads(note.read_text()) != about:
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
        note.write_text(json.dumps(about))


def _segments(
    av: Any,
    container: Any,
    stream: Any,
    parts: Path,
    upscaler: Upscaler,
    wanted: Target,
    on_progress: Progress,
) -> list[Path]:
    """The files of all segments, made now unless they are there; each has its time stamps beside it."""
    frames, made, done, total = container.decode(stream), list[Path](), 0, stream.frames or None
    while batch := list(islice(frames, SEGMENT)):
        path = parts / f"{len(made):06}.mkv"
        if not path.with_suffix(".json").is_file():
            _encode(
                av,
                path,
                stream,
                _enlarged(batch, upscaler, wanted, partial(_tell, on_progress, done, total)),
            )
            stamps = [frame.pts for frame in batch]
            with replacing(
                path.with_suffix(".json")
            ) as note:  # last: its being there says that the segment is whole
                note.write(json.dumps(stamps).encode())
        made.append(path)
        done += len(batch)
        on_progress(done, total)
    return made


def _tell(on_progress: Progress, before: int, total: int | None, number: int) -> None:
    on_progress(before + number, total)


def _enlarged(
    frames: list[Any], upscaler: Upscaler, wanted: Target, told: Callable[[int], None]
) -> Iterator[np.ndarray[Any, Any]]:
    for number, frame in enumerate(frames, 1):
        yield upscaler(Picture(frame.to_ndarray(format="rgb24")), target=wanted).pixels
        told(number)


def _encode(av: Any, path: Path, like: Any, pictures: Iterator[np.ndarray[Any, Any]]) -> None:
    """A segment: one picture a frame, in order, without frames that refer to later ones."""
    space = _SCALER_SPACES.get(like.codec_context.colorspace, like.codec_context.colorspace)
    with av.open(str(path), "w") as container:
        stream: Any = None
        for number, pixels in enumerate(pictures):
            if stream is None:
                stream = _like(container, like, pixels.shape[0], pixels.shape[1])
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
                format=stream.pix_fmt,
                dst_colorspace=space,
                dst_color_range=like.codec_context.color_range or 1,
            )
            frame.pts, frame.time_base = number, 1 / Fraction(like.average_rate or 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _like(container: Any, like: Any, height: int, width: int) -> Any:
    """A stream of H.264 with the rate, tags and aspect of ``like``."""
    stream = container.add_stream("libx264", rate=like.average_rate or 25)
    stream.height, stream.width = height, width
    stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
    stream.options = {"crf": str(QUALITY), "bf": "0"}
    for tag in _TAGS:
        setattr(stream.codec_context, tag, getattr(like.codec_context, tag))
    if like.sample_aspect_ratio:
        stream.codec_context.sample_aspect_ratio = like.sample_aspect_ratio
    return stream


def _join(av: Any, source: Path, target: Path, segments: list[Path]) -> None:
    """``target`` of the segments' frames, with the time stamps and all else of ``source``."""
    unfinished = target.with_name(f"{target.name}.parts") / f"joined{target.suffix}"
    with (
        av.open(str(source)) as old,
        av.open(str(segments[0])) as first,
        av.open(str(unfinished), "w") as new,
    ):
        new.metadata.update(old.metadata)
        video = old.streams.video[0]
        others = {
            stream.index: new.add_stream_from_template(stream)
            for stream in (*old.streams.audio, *old.streams.subtitles)
        }
        made = new.add_stream_from_template(first.streams.video[0])
        made.time_base = video.time_base
        kept = [stream for stream in old.streams if stream.index in others]
        both = (_video_packets(av, segments, made, video.time_base), _other_packets(old, kept, others))
        for packet in heapq.merge(*both, key=lambda packet: packet.dts * packet.time_base):
            new.mux(packet)
    unfinished.replace(target)


def _video_packets(av: Any, segments: list[Path], stream: Any, time_base: Any) -> Iterator[Any]:
    for path in segments:
        stamps = json.loads(path.with_suffix(".json").read_text())
        with av.open(str(path)) as container:
            packets = (packet for packet in container.demux(video=0) if packet.dts is not None)
            for packet, stamp in zip(packets, stamps, strict=True):
                packet.time_base = time_base
                packet.pts = packet.dts = stamp
                packet.stream = stream
                yield packet


def _other_packets(container: Any, streams: list[Any], others: dict[int, Any]) -> Iterator[Any]:
    if not streams:
        return
    for packet in container.demux(streams):
        if packet.dts is not None:
            packet.stream = others[packet.stream.index]
            yield packet


def _pyav() -> Any:
    try:
        import av
    except ImportError:
        raise MissingExtraError("video", "video") from None
    return av
