"""Writes src/polyres/data/public_sets.json: checksums of the decoded pixels of the public test sets.

python benchmarks/public_sets.py ../shared/data/bench
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from polyres.data import list_pictures, read_rgb
from polyres.data.sources import checksum
from polyres.files import replacing

OUTPUT = Path(__file__).resolve().parents[1] / "src" / "polyres" / "data" / "public_sets.json"
SOURCE = (
    "Set5 (Bevilacqua et al. 2012), Set14 (Zeyde et al. 2010), BSD100 (validation split of BSDS500, Martin et al. "
    "2001), uncropped, with their LR by MATLAB's imresize as SwinIR and IMDN publish it; BLAKE2b, 16 bytes, of the "
    "decoded 8-bit RGB pixels, row after row, grey repeated in the three channels"
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "bench", type=Path, help="holds Set5, Set14 and BSD100, each with HR and LR_bicubic/X2 ..."
    )
    bench = parser.parse_args().bench
    folders = {
        f"{name}/{kind}": bench / name / (kind if kind == "HR" else f"LR_bicubic/{kind}")
        for name in ("Set5", "Set14", "BSD100")
        for kind in ("HR", "X2", "X3", "X4")
    }
    sets = {
        name: {path.stem: checksum(read_rgb(path)) for path in list_pictures(folder)}
        for name, folder in folders.items()
    }
    with replacing(OUTPUT) as stream:
        stream.write(json.dumps({"source": SOURCE, "sets": sets}, indent=1).encode() + b"\n")
    print({name: len(digests) for name, digests in sets.items()})


if __name__ == "__main__":
    main()
