"""Pages with pictures to compare: nothing outside the page, nothing unescaped, the pictures themselves inside."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from polyres.pictures import Picture
from polyres.pictures.slider import before_after_page, data_uri, page, slider


class Tags(HTMLParser):
    """Every tag with its attributes, and the text between."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def picture(height: int, width: int, dtype: str = "uint8") -> Picture:
    white = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    ramp = np.linspace(0, white, height * width * 3).reshape(height, width, 3).astype(dtype)
    return Picture(ramp)


def decoded(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))


def test_the_page_holds_both_pictures_and_refers_to_nothing_else() -> None:
    before, after = picture(4, 6), picture(8, 12)
    tags = Tags(before_after_page(before, after, labels=("low", "high")))
    images = [attributes for tag, attributes in tags.found if tag == "img"]
    assert [decoded(image["src"] or "").size for image in images] == [(12, 8), (6, 4)]
    assert np.array_equal(np.asarray(decoded(images[1]["src"] or "")), before.pixels)
    for _, attributes in tags.found:
        for name in ("src", "href", "data", "action", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:")
    policies = [attributes["content"] for tag, attributes in tags.found if "http-equiv" in attributes]
    assert policies
    assert "default-src 'none'" in (policies[0] or "")


def test_names_cannot_break_out_of_the_page() -> None:
    evil = "</title><script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    html = before_after_page(picture(2, 2), picture(2, 2), title=evil, labels=(evil, evil))
    tags = Tags(html)
    assert [tag for tag, _ in tags.found].count("script") == 1
    assert [tag for tag, _ in tags.found].count("img") == 2
    assert not any(name.startswith("on") for _, attributes in tags.found for name in attributes)
    assert evil in tags.text


def test_the_smaller_picture_shows_its_pixels_and_the_larger_does_not() -> None:
    classes = [a.get("class") for tag, a in Tags(slider(picture(2, 2), picture(4, 4))).found if tag == "img"]
    assert classes == ["after", "before pixelated"]
    classes = [a.get("class") for tag, a in Tags(slider(picture(4, 4), picture(4, 4))).found if tag == "img"]
    assert classes == ["after", "before"]


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_deep_pictures_are_shown_in_eight_bits(dtype: str) -> None:
    address = data_uri(picture(3, 5, dtype))
    content = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    assert content[24] == 8  # the header's bit depth
    shown = np.asarray(decoded(address))
    assert (shown.min(), shown.max()) == (0, 255)


def test_a_page_takes_any_content() -> None:
    tags = Tags(page("Title", "<p>hello</p>", ".mine { color: red }"))
    assert ("p", {}) in tags.found
    assert ".mine" in tags.text
