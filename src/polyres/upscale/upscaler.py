"""The Upscaler: a model made into a function from picture to picture, of any size, in bounded memory."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from polyres.deploy.accelerate import narrows
from polyres.deploy.devices import default_device, default_dtype
from polyres.errors import PictureError, PolyresError, UsageError
from polyres.model import SRModel
from polyres.pictures.picture import Picture, Pixels
from polyres.pictures.resample import resample
from polyres.pictures.tensors import pixels_of
from polyres.pictures.transparency import bleed
from polyres.scale import Scale, ScaleLike
from polyres.upscale.choice import EngineName, check_engine, make_engine
from polyres.upscale.engine import Engine
from polyres.upscale.memory import free_memory, is_out_of_memory, working_memory
from polyres.upscale.planning import Plan, plan
from polyres.upscale.targets import MAX_OUTPUT_PIXELS, Target
from polyres.upscale.tiling import Axis, Span, axes, fit, halve

#: Overlap in pixels for networks that look at the whole picture, where none is exact.
GLOBAL_OVERLAP = 64

#: Windows shown to the network at one time, at most, unless a caller says how many.
_MAX_BATCH = 16

#: Called with the fraction that is done, 0 to 1.
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut.

    Attributes:
        rows: rules for the vertical axis.
        columns: rules for the horizontal axis.
        tile: (height, width) of the cores, in pixels of the picture.
        exact: whether the tiles put together equal the enlarged whole.
    """

    rows: Axis
    columns: Axis
    tile: tuple[int, int]
    exact: bool

    @property
    def count(self) -> int:
        """Number of tiles."""
        return self.rows.count(self.tile[0]) * self.columns.count(self.tile[1])

    def __str__(self) -> str:
        if self.count == 1:
            return "in one piece"
        equal = "exact" if self.exact else "nearly exact: the network looks at the whole picture"
        return f"{self.count} tiles of {self.tile[1]}x{self.tile[0]}, {self.rows.overlap} pixels of overlap, {equal}"


class Upscaler:
    """Enlarges pictures with a model: ``upscaler(picture, scale=3)``.

    The model is fused once for each scale that is asked for; weights that change later are not noticed.

    Tiles equal the whole picture (to rounding in float32; in bfloat16 a few values move by its precision) where
    the model's ``context`` is finite, which is also their overlap unless one is given. A model whose context is
    None looks at the whole picture: it is shown all of it if half of the free memory suffices, and else tiles, which
    differ from the whole by what their surroundings contribute (``polyres.upscale.streaming.tiling_error``).

    Args:
        model: from :func:`polyres.load` or :func:`polyres.build`.
        device: where it runs; by default the GPU if there is one.
        dtype: what convolutions compute in; by default bfloat16 where hardware is made for it, else float32; of
            networks that :func:`polyres.deploy.accelerate.narrows` tells, products alone.
        tile: side of the tiles in pixels of the picture before overlap, 0 for none, or ``"auto"``: as needs the
            least work in the memory that is free.
        overlap: pixels shown around each tile; by default the model's context.
        batch: tiles of the same size that are run together; by default as many as memory allows.
        memory: bytes of working memory; by default half of what is free, and no more than is of use for exactness
            or speed.
        max_pixels: of a result.
        native: on a CPU, run networks that have a native form by it; compiled at first use, if there is a compiler.
        engine: what runs the network: ``"torch"``, ``"onnxruntime"``, ``"openvino"``, or ``"auto"``, the fastest of
            those that are installed, which is tried once for a network on a machine (see :meth:`expect`). All but
            torch need a CPU.
    """

    def __init__(
        self,
        model: SRModel,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        tile: int | Literal["auto"] = "auto",
        overlap: int | None = None,
        batch: int | None = None,
        memory: int | None = None,
        max_pixels: int = MAX_OUTPUT_PIXELS,
        native: bool = True,
        engine: EngineName = "torch",
    ) -> None:
        if tile != "auto" and (not isinstance(tile, int) or isinstance(tile, bool) or tile < 0):
            raise UsageError(f"tile is a number of pixels, 0 for no tiles, or 'auto'; got {tile!r}")
        self.model = model
        self.device = torch.device(device) if device is not None else default_device()
        self.dtype = dtype or self._default_dtype(native)
        self.tile, self.overlap, self.batch, self.memory = tile, overlap, batch, memory
        self.max_pixels, self.native = max_pixels, native
        self.engine, self._fixed_dtype = check_engine(engine), dtype is not None
        self._engines: dict[Scale, tuple[Engine, str]] = {}
        self._expected: Counter[Scale] | None = None

    def _default_dtype(self, native: bool) -> torch.dtype:
        narrow = native and self.device.type == "cpu" and narrows(self.model.encoder)
        return torch.bfloat16 if narrow else default_dtype(self.device)

    def __call__(
        self,
        picture: Picture,
        *,
        scale: ScaleLike | None = None,
        size: tuple[int, int] | None = None,
        target: Target | None = None,
        on_progress: Progress | None = None,
    ) -> Picture:
        """``picture`` enlarged by ``scale``, or to ``size``, with its depth, profile, EXIF block and transparency.

        Args:
            picture: of any size from 1x1. Grey goes through as three equal channels and comes back as one.
                Transparency is enlarged apart from the colours: opaque and empty areas stay exactly so.
            scale: exact factor, such as ``3``, ``2.5`` or ``"5/2"``.
            size: or the size wanted, (width, height), whatever becomes of the aspect.
            target: or any other way of asking for a size, such as ``Target(width=3840)``.
            on_progress: called with the fraction that is done.

        Raises:
            UsageError: none or several of ``scale``, ``size`` and ``target``; a scale that the model cannot make.
            PictureError: a result that is too large, or for which memory does not suffice.
        """
        work = self.plan(picture, scale=scale, size=size, target=target)
        if work.model_scale is None and work.resample_to is None and work.cut_from is None:
            return picture
        pixels, alpha = bleed(picture), picture.alpha
        if work.model_scale is not None:
            pixels = self._enlarged(pixels, work.model_scale, on_progress or (lambda done: None))
        width, height = work.cut_from or (work.width, work.height)
        if work.resample_to is not None:
            pixels = resample(pixels, height, width)
        if alpha is not None:
            alpha = resample(alpha, height, width, sharp=False)[work.kept]
        return dataclasses.replace(picture, pixels=pixels[work.kept], alpha=alpha)

    def expect(self, sizes: Iterable[tuple[int, int]], target: Target) -> None:
        """Say what is to come, so that ``engine="auto"`` makes no engine ready for less work than that costs.

        Unless this is said, there is taken to be enough. Engines that are chosen already stay.

        Args:
            sizes: (height, width) of each picture.
            target: what each will be enlarged to.
        """
        self._expected = Counter()
        for (height, width), count in Counter(sizes).items():
            with suppress(PolyresError):  # it will be told when its turn comes
                scale = plan(
                    height,
                    width,
                    target=target,
                    max_pixels=self.max_pixels,
                    supports=self.model.upsampler.supports,
                ).model_scale
                if scale is not None:
                    self._expected[scale] += height * width * count

    def plan(
        self,
        picture: Picture,
        *,
        scale: ScaleLike | None = None,
        size: tuple[int, int] | None = None,
        target: Target | None = None,
    ) -> Plan:
        """What will be done to ``picture``; arguments and errors as for the call."""
        supports = self.model.upsampler.supports
        return plan(
            picture.height,
            picture.width,
            scale=scale,
            size=size,
            target=target,
            max_pixels=self.max_pixels,
            supports=supports,
        )

    def tiling(self, height: int, width: int, scale: ScaleLike) -> Tiling:
        """How a picture of ``height`` x ``width`` will be cut for the network at ``scale``."""
        engine = self._engine(Scale.of(scale))
        context = GLOBAL_OVERLAP if engine.context is None else engine.context
        overlap = context if self.overlap is None else self.overlap
        rows, columns = axes(height, width, engine.scale, overlap, engine.multiple_of, engine.minimum_size)
        if self.tile == 0:
            tile = (height, width)
        elif self.tile == "auto":
            whole = engine.context is None and height * width <= self._most(engine)
            tile = (height, width) if whole else fit(rows, columns, self._room(engine))
        else:
            tile = (max(self.tile, engine.minimum_size), max(self.tile, engine.minimum_size))
        exact = engine.context is not None and overlap >= engine.context
        return Tiling(rows, columns, tile, exact)

    def working_set(self, height: int, width: int, scale: ScaleLike) -> tuple[int, float]:
        """Pixels of the largest band of the result, and bytes of all windows that the network is shown at once."""
        exact = Scale.of(scale)
        engine, tiling = self._engine(exact), self.tiling(height, width, exact)
        rows, columns = tiling.rows.window(tiling.tile[0]), tiling.columns.window(tiling.tile[1])
        batch = self.batch or self._batch(engine, tiling, tiling.tile)
        tall = min(tiling.tile[0], height)
        return round(tall * exact.y) * round(
            width * exact.x
        ), rows * columns * batch * engine.bytes_per_pixel()

    def describe(self, scale: ScaleLike) -> str:
        """What runs the network at ``scale``, and in which precision."""
        engine = self._engine(Scale.of(scale))
        chosen = self._engines[engine.scale][1]
        return f"{engine} ({chosen})" if chosen else str(engine)

    def _engine(self, scale: Scale) -> Engine:
        if scale not in self._engines:
            self._engines[scale] = make_engine(
                self.model,
                scale,
                self.device,
                self.dtype,
                name=self.engine,
                fixed_dtype=self._fixed_dtype,
                native=self.native,
                pixels=None if self._expected is None else self._expected[scale],
            )
        return self._engines[scale][0]

    def _room(self, engine: Engine) -> float:
        """Pixels that all windows of a batch together may have."""
        memory = working_memory(self.device) if self.memory is None else self.memory
        return memory / engine.bytes_per_pixel()

    def _most(self, engine: Engine) -> float:
        """Pixels that one window may have where tiles are not exact: as many as half of all free memory holds."""
        memory = free_memory(self.device) // 2 if self.memory is None else self.memory
        return memory / engine.bytes_per_pixel()

    def _enlarged(self, pixels: Pixels, scale: Scale, on_progress: Progress) -> Pixels:
        height, width = scale.output_size(*pixels.shape[:2])
        result = np.empty((height, width, pixels.shape[2]), pixels.dtype)
        top = 0
        for band in self.bands(pixels, scale):
            result[top : top + len(band)] = band
            top += len(band)
            on_progress(top / height)
        return result

    def bands(self, pixels: Pixels, scale: ScaleLike) -> Iterator[Pixels]:
        """The network's result from top to bottom, a row of tiles at a time: (rows, W * scale, C), same dtype.

        If memory runs out, the tiles are halved from there on; what was given out stands.

        Args:
            pixels: (H, W, 1 or 3).
            scale: that the model can make.
        """
        engine = self._engine(Scale.of(scale))
        height, width = pixels.shape[:2]
        tiling = self.tiling(height, width, engine.scale)
        tile, begin = tiling.tile, 0
        while begin < height:
            batch = self.batch or self._batch(engine, tiling, tile)
            try:
                for row in tiling.rows.spans(tile[0], begin):
                    yield _band(engine, pixels, row, tiling.columns.spans(tile[1]), batch)
                    begin = row.stop
            except (MemoryError, RuntimeError) as error:
                smaller = halve(tile, tiling.rows, tiling.columns)
                if not is_out_of_memory(error):
                    raise
                if smaller is None:
                    raise PictureError(
                        f"memory ran out even with tiles of {tile[1]}x{tile[0]} pixels: free some of it, "
                        "or take a smaller model"
                    ) from error
                tile = smaller

    def _batch(self, engine: Engine, tiling: Tiling, tile: tuple[int, int]) -> int:
        """How many windows fit into memory together."""
        if tiling.columns.count(tile[1]) == 1:
            return 1
        window = tiling.rows.window(tile[0]) * tiling.columns.window(tile[1])
        return max(1, min(_MAX_BATCH, int(self._room(engine) // window)))


def _band(engine: Engine, pixels: Pixels, row: Span, columns: list[Span], batch: int) -> Pixels:
    """One row of tiles enlarged: (rows, W', C), same dtype as ``pixels``."""
    tall, wide = engine.scale.y, engine.scale.x
    target = row.target(tall)
    shape = (target.stop - target.start, columns[-1].target(wide).stop, pixels.shape[2])
    band = np.empty(shape, pixels.dtype)
    for group in _groups(columns, batch):
        enlarged = engine(np.stack([pixels[row.window, column.window] for column in group]))
        for column, image in zip(group, enlarged, strict=True):
            core = image[:, row.crop(tall), column.crop(wide)]
            core = core.mean(0, keepdim=True) if shape[2] == 1 else core
            band[:, column.target(wide)] = pixels_of(core.permute(1, 2, 0), pixels.dtype)
    return band


def _groups(columns: list[Span], batch: int) -> Iterator[list[Span]]:
    """Runs of at most ``batch`` neighbours whose windows have the same size."""
    group: list[Span] = []
    for column in columns:
        if group and (len(group) == batch or column.high - column.low != group[0].high - group[0].low):
            yield group
            group = []
        group.append(column)
    yield group
