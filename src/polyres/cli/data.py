"""``polyres data``: packing, checking, verifying and sorting data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polyres.data.verifying import Verdict

app = typer.Typer(help="Pack, check, verify and sort data sets.", no_args_is_help=True)

#: Names that a line of output shows before it only counts.
_SHOWN = 5


@app.command()
def pack(
    folders: Annotated[list[Path], typer.Argument(help="Folders of pictures.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Pack to write; replaced if it exists.")],
) -> None:
    """Put folders of pictures into one file that training maps into memory."""
    from rich.console import Console
    from rich.progress import Progress

    from polyres.data.packing import write_pack

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("packing", total=None)
        made = write_pack(folders, output, lambda n, all_: progress.update(task, completed=n, total=all_))
    megabytes = output.stat().st_size / 1e6
    typer.echo(
        f"{output}: {len(made.items)} pictures, {megabytes:.1f} MB, fingerprint {made.fingerprint[:16]}"
    )


@app.command()
def check(
    paths: Annotated[list[Path], typer.Argument(help="Folders, sets of HR and LR, packs or LMDBs.")],
    against: Annotated[
        list[Path],
        typer.Option("--against", help="Test set whose pictures must not be among them; repeatable."),
    ] = [],  # noqa: B006
    pictures: Annotated[int, typer.Option(min=1, help="Pairs of a set whose kernel is looked into.")] = 10,
) -> None:
    """Name damaged files, wrong pairs, duplicates and test pictures; say which kernel made LR."""
    from rich.console import Console

    from polyres.data.checking import check as look
    from polyres.errors import DataError

    with Console(stderr=True).status("reading") as status:
        found = look(paths, against, lambda name: status.update(f"reading {Path(name).name}"), pictures)
    for finding in found.findings:
        typer.echo(f"{finding.kind}: {finding.message}")
    for each in found.verdicts:
        typer.echo(_verdict(each))
    smallest = "" if found.smallest is None else f", the smallest {found.smallest[1]}x{found.smallest[0]}"
    typer.echo(f"{found.pictures} pictures, {found.pixels / 1e6:.1f} megapixels{smallest}")
    if found.findings:
        raise DataError(f"{len(found.findings)} problems, listed above")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Set of HR and LR pictures, or a folder of such sets.")],
    pictures: Annotated[
        int, typer.Option(min=1, help="Pairs of each set and scale to look into, evenly spread.")
    ] = 10,
) -> None:
    """Say which kernel made LR, whether pairs are aligned, and whether the pictures are those of a public set."""
    from rich.console import Console

    from polyres.data.layouts import find_pairs, find_scales
    from polyres.data.verifying import shifted_text, spread, verdict
    from polyres.errors import DataError

    scales = find_scales(folder)
    if not scales:
        raise DataError(f"'{folder}' has no LR pictures; a set is HR beside LR_bicubic/X4")
    shifted = []
    with Console(stderr=True).status("comparing"):
        pairs = [pair for pair in find_pairs(folder, scales) if pair.low is not None]
        for group, scale in dict.fromkeys((pair.group, pair.scale) for pair in pairs):
            ours = [pair for pair in pairs if (pair.group, pair.scale) == (group, scale)]
            found = verdict(spread(ours, pictures))
            typer.echo(_verdict(found))
            _public(f"{group} x{scale} LR", (pair.low for pair in ours if pair.low is not None))
            shifted += [shifted_text(each) for each in found.shifted]
        for group in dict.fromkeys(pair.group for pair in pairs):
            _public(f"{group} HR", dict.fromkeys(pair.high for pair in pairs if pair.group == group))
    for line in shifted:
        typer.echo(line)
    if shifted:
        raise DataError(f"{len(shifted)} pairs are displaced, listed above")


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="DIV2K, Flickr2K or LSDIR.")],
    downloads: Annotated[Path, typer.Argument(help="Folder with the downloaded archives, or unpacked ones.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to sort into; made if missing.")],
    crop: Annotated[int, typer.Option(min=0, help="Also cut sub-images of this side; 0 cuts none.")] = 0,
    step: Annotated[int, typer.Option(min=1, help="From one sub-image to the next.")] = 240,
) -> None:
    """Sort a downloaded public set into training and validation, HR and LR, and name what is missing."""
    from rich.console import Console

    from polyres.data.preparing import prepare as sort
    from polyres.data.preparing import ranges
    from polyres.data.public import find_public_set
    from polyres.data.windows import Windows
    from polyres.errors import DataError

    windows = Windows(crop, step) if crop else None
    with Console(stderr=True).status("sorting") as status:
        done = sort(find_public_set(name), downloads, output, windows, lambda path: status.update(path))
    for folder, count in done.pictures.items():
        typer.echo(f"{output / folder}: {count} pictures")
    for path in done.small:
        typer.echo(f"smaller than {crop}x{crop}, not cut: {path}")
    for folder, numbers in done.missing.items():
        typer.echo(f"missing in {output / folder}: {ranges(numbers)}")
    if done.missing:
        raise DataError(f"{sum(map(len, done.missing.values()))} pictures are missing, listed above")


def _verdict(found: Verdict) -> str:
    """One line on how LR was made."""
    count, (down, right) = len(found.pictures), found.shift
    psnr = min(each.psnr for each in found.pictures)
    likeness = (
        "equal in every value"
        if found.exact == count
        else f"{found.exact} of {count} equal, {psnr:.1f} dB at least"
    )
    return (
        f"{found.group} x{found.scale}: LR by {found.maker}, {likeness} ({count} looked at); "
        f"displaced by {_hundredths(down)} rows, {_hundredths(right)} columns"
    )


def _hundredths(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # adding zero takes the sign off a rounded -0.00


def _public(title: str, paths: Iterable[Path]) -> None:
    """One line on which public sets the pictures are from."""
    from polyres.data.verifying import public_matches, public_size

    matches, others = public_matches(list(paths))
    for name, count in matches.most_common():
        typer.echo(
            f"{title}: {count} of the {public_size(name)} pictures of the published {name}, pixel for pixel"
        )
    if others and matches:
        names = ", ".join(str(path) for path in others[:_SHOWN])
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        typer.echo(f"{title}: in no known public set: {names}{more}")
    elif others:
        typer.echo(f"{title}: equal to no known public set (Set5, Set14 and BSD100, uncropped, are known)")
