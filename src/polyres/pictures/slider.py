"""Two pictures on top of each other with a handle that uncovers one, as HTML that needs no other file.

A page has :data:`STYLE` and :data:`SCRIPT` once, and a :func:`slider` for each pair; :func:`page` puts any content
into a page that the browser itself keeps from loading anything.
"""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html import escape

import numpy as np

from polyres.pictures.formats import FORMATS
from polyres.pictures.picture import Picture, to_depth
from polyres.pictures.writing import encode_picture

#: Rules for everything that :func:`slider` makes.
STYLE = """
.slider { --cut: 50%; margin: 0 0 1rem; width: fit-content; max-width: 100%; }
.slider .stage { position: relative; max-width: 100%; overflow: hidden; }
.slider img { position: absolute; inset: 0; width: 100%; height: 100%; display: block; }
.slider .pixelated { image-rendering: pixelated; }
.slider .before { clip-path: inset(0 calc(100% - var(--cut)) 0 0); }
.slider .stage::after { content: ""; position: absolute; inset: 0 auto 0 var(--cut); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 3px #000; pointer-events: none; }
.slider input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; }
.slider input:focus-visible { opacity: 0.4; }
.slider figcaption { display: flex; justify-content: space-between; gap: 1rem; font-size: 0.85rem; }
"""

#: Moves the handle of every slider on the page.
SCRIPT = """
for (const handle of document.querySelectorAll(".slider input")) {
  const move = () => handle.closest(".slider").style.setProperty("--cut", handle.value + "%");
  handle.addEventListener("input", move);
  move();
}
"""

_PAGE_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 72rem; }
"""

#: Whatever a page contains, the browser loads nothing for it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def before_after_page(
    before: Picture,
    after: Picture,
    title: str = "Before and after",
    labels: tuple[str, str] = ("before", "after"),
) -> str:
    """A whole page, to be written as UTF-8, in which the two pictures are compared.

    Args:
        before: shown at the size of ``after``, with visible pixels if it has fewer.
        after: shown at its own size, or as large as the window allows.
        title: of the page.
        labels: what the two pictures are called.
    """
    return page(title, f"<h1>{escape(title)}</h1>\n{slider(before, after, labels)}")


def slider(
    before: Picture, after: Picture, labels: tuple[str, str] = ("before", "after"), zoom: float = 1.0
) -> str:
    """A ``<figure>`` with both pictures inside; works with a mouse, by touch and by the arrow keys.

    Args:
        before: shown at the size of ``after``, with visible pixels if it has fewer.
        after: shown at ``zoom`` times its size, or as wide as the page.
        labels: what the two pictures are called, as plain text.
        zoom: CSS pixels for each pixel of ``after``.
    """
    left, right = (escape(label) for label in labels)
    width = max(1, round(after.width * zoom))
    stage = f"width:{width}px;aspect-ratio:{after.width}/{after.height}"
    coarse = before.width < after.width
    return (
        f'<figure class="slider"><div class="stage" style="{stage}">'
        f"{_image(after, right, 'after', zoom > 1)}{_image(before, left, 'before', coarse or zoom > 1)}"
        f'<input type="range" min="0" max="100" step="0.1" value="50" aria-label="{left} or {right}">'
        f"</div><figcaption><span>{left}</span><span>{right}</span></figcaption></figure>"
    )


def page(title: str, body: str, style: str = "") -> str:
    """A page of HTML around ``body``, which is HTML already, with the sliders' style and script.

    A content security policy in its head keeps the browser from loading anything that is not in the page.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title>\n'
        f"<style>{_PAGE_STYLE}{STYLE}{style}</style></head>\n<body>\n{body}\n"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def data_uri(picture: Picture) -> str:
    """``picture`` as a PNG of 8 bits inside a ``data:`` address, with its colour profile and without EXIF."""
    stream = io.BytesIO()
    alpha = None if picture.alpha is None else to_depth(picture.alpha, np.dtype(np.uint8))
    shown = replace(picture, pixels=to_depth(picture.pixels, np.dtype(np.uint8)), alpha=alpha, exif=None)
    encode_picture(shown, stream, FORMATS["png"])
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _image(picture: Picture, alt: str, side: str, pixelated: bool) -> str:
    kind = f"{side} pixelated" if pixelated else side
    return f'<img class="{kind}" alt="{alt}" src="{data_uri(picture)}">'
