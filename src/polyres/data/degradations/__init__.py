"""Degradations beyond bicubic: seeded steps that a run file lists and the sampler applies to each crop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from polyres.data.degradations.base import Degradation
from polyres.data.degradations.blurring import Blur, Sinc
from polyres.data.degradations.combining import InSequence, OneOf, Sometimes
from polyres.data.degradations.compression import Jpeg
from polyres.data.degradations.noise import GaussianNoise, PoissonNoise
from polyres.data.degradations.resizing import RandomResize, ToLow
from polyres.data.degradations.second_order import second_order
from polyres.errors import ConfigError
from polyres.registry import Entry, Table

_REAL = "Wang et al. 2021, Real-ESRGAN, arXiv 2107.10833"
_BSRGAN = "Zhang et al. 2021, BSRGAN, arXiv 2103.14006"

#: Every degradation that a run file can name. Those with ``steps`` take a list of the same form.
DEGRADATIONS: Table[Degradation] = Table(
    "degradation",
    [
        Entry("blur", Blur, "round Gaussian blur", "common", "Apache-2.0"),
        Entry(
            "blur-elliptic",
            Blur,
            "Gaussian blur of two widths and an angle",
            _REAL,
            "BSD-3-Clause",
            {"anisotropic": True},
        ),
        Entry(
            "blur-generalised",
            Blur,
            "Gaussian blur of random shape",
            _REAL,
            "BSD-3-Clause",
            {"beta": (0.5, 4.0)},
        ),
        Entry(
            "blur-plateau",
            Blur,
            "blur with a flat top",
            _REAL,
            "BSD-3-Clause",
            {"beta": (1.0, 2.0), "plateau": True},
        ),
        Entry("sinc", Sinc, "ringing of an ideal low-pass", _REAL, "BSD-3-Clause"),
        Entry("noise", GaussianNoise, "Gaussian noise, in colour or grey", "common", "Apache-2.0"),
        Entry("noise-poisson", PoissonNoise, "noise of counting photons", _REAL, "BSD-3-Clause"),
        Entry("jpeg", Jpeg, "JPEG of random quality", "common", "Apache-2.0"),
        Entry("resize", RandomResize, "up or down by a random factor and kernel", _REAL, "BSD-3-Clause"),
        Entry("to-low", ToLow, "to the size of LR; what follows acts on LR", "common", "Apache-2.0"),
        Entry(
            "sequence",
            InSequence,
            "several steps, shuffled if wanted",
            _BSRGAN,
            "Apache-2.0",
            tiny={"steps": ()},
        ),
        Entry("one-of", OneOf, "one of several steps", "common", "Apache-2.0", tiny={"steps": [Jpeg()]}),
        Entry("second-order", second_order, "Real-ESRGAN's whole chain", _REAL, "BSD-3-Clause"),
    ],
)


def make_steps(content: Iterable[Mapping[str, Any]]) -> list[Degradation]:
    """The steps that a run file lists: each with ``name``, and ``probability`` (1) and ``options`` ({}) if wanted.

    Raises:
        UnknownNameError: no such degradation.
        ConfigError: a key or option that it does not have, or a value that it refuses.
    """
    return [_make(each) for each in content]


def _make(content: Mapping[str, Any]) -> Degradation:
    unknown = [key for key in content if key not in ("name", "probability", "options")]
    if unknown or "name" not in content:
        raise ConfigError(
            f"a degradation has name, probability and options; got {', '.join(content) or 'nothing'}"
        )
    options = dict(content.get("options", {}))
    if "steps" in options:
        options["steps"] = make_steps(options["steps"])
    step = DEGRADATIONS.make(content["name"], **options)
    probability = content.get("probability", 1.0)
    try:
        return step if probability == 1 else Sometimes(step, probability)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"degradation '{content['name']}': {error}") from error


__all__ = ["DEGRADATIONS", "Degradation", "make_steps"]
