"""The public training sets that polyres can sort: how their archives name files, and which there should be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from polyres.errors import UnknownNameError, nearest


@dataclass(frozen=True)
class Place:
    """Where a file belongs.

    Attributes:
        split: ``train`` or ``valid``.
        number: the picture's number, as it is written.
        scale: of an LR picture; None for HR.
    """

    split: str
    number: str
    scale: int | None


@dataclass(frozen=True)
class PublicSet:
    """A training set.

    Attributes:
        name: what users write and folders begin with.
        source: where it is described.
        pattern: of the end of the path of every picture; its group ``number`` is an HR picture's, ``low`` and
            ``scale`` are an LR picture's.
        validation: what the path of a validation picture has in it; None where there are none.
        numbers: first and last of each split; splits whose numbers are not known are left out.
    """

    name: str
    source: str
    pattern: re.Pattern[str]
    validation: re.Pattern[str] | None
    numbers: Mapping[str, tuple[int, int]]

    def place(self, path: str) -> Place | None:
        """Where the file at ``path`` belongs, or None if it is no picture of this set."""
        match = self.pattern.search("/" + path)
        if match is None:
            return None
        split = "valid" if self.validation and self.validation.search("/" + path) else "train"
        if match["number"]:
            return Place(split, match["number"], None)
        return Place(split, match["low"], int(match["scale"]))


PUBLIC_SETS = {
    each.name: each
    for each in (
        PublicSet(
            "DIV2K",
            "Agustsson and Timofte 2017, NTIRE 2017",
            re.compile(
                r"/DIV2K_(?:train|valid)_"
                r"(?:HR/(?P<number>\d{4})|LR_bicubic/X\d/(?P<low>\d{4})x(?P<scale>\d))\.png$"
            ),
            re.compile(r"/DIV2K_valid_"),
            {"train": (1, 800), "valid": (801, 900)},
        ),
        PublicSet(
            "Flickr2K",
            "Lim et al. 2017, EDSR",
            re.compile(
                r"/Flickr2K_(?:HR/(?P<number>\d{6})|LR_bicubic/X\d/(?P<low>\d{6})x(?P<scale>\d))\.png$"
            ),
            None,
            {"train": (1, 2650)},
        ),
        PublicSet(
            "LSDIR",
            "Li et al. 2023, LSDIR",
            re.compile(r"/(?:\d{7}|val\d*|HR|X\d)/(?:(?P<number>\d{7})|(?P<low>\d{7})x(?P<scale>\d))\.png$"),
            re.compile(r"/val\d*/"),
            {"train": (1, 84991)},
        ),
    )
}


def find_public_set(name: str) -> PublicSet:
    """The set called ``name``, in any case.

    Raises:
        UnknownNameError: polyres does not know it.
    """
    for known, each in PUBLIC_SETS.items():
        if known.lower() == name.lower():
            return each
    raise UnknownNameError(
        f"no public set is called '{name}'; there are {', '.join(PUBLIC_SETS)}.{nearest(name, PUBLIC_SETS)}"
    )
