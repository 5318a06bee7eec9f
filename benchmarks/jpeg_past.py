"""Which pictures were saved as JPEG before, though their files don't say so, and how sure that is.

    python benchmarks/jpeg_past.py ../shared/data/test/set5 ../shared/data/test/set14

For each picture in which the blind estimate finds tables: the IJG quality (or "other tables"), and how many of its
luma coefficients lie within a fifth of a step of a multiple of their step, on the grid that was found and, as a
control, on the 63 others (the largest share of them). Chance gives 0.4.

`--crops 96 160 240 480` looks at two crops of each size too (the upper left corner and a random place), and counts.
`--saved` counts instead how often a JPEG is found once it was saved (IJG quality 10 to 95, and tables of another kind)
and cropped to 3 px below and 5 px right of its grid, and how often the mean step that was found is right to a half.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ns_video.estimate import find_jpeg, share_on_steps
from ns_video.jpeg_tables import ijg_tables
from ns_video.media.pictures import Rgb, list_pictures, read_rgb

_SLANTED = (8 + 3 * np.add.outer(np.arange(8), np.arange(8))).astype(np.uint16)
"""Steps of 8 to 50, as no IJG quality has them."""


def crops_of(picture: Rgb, sizes: list[int], seed: int) -> Iterator[tuple[str, Rgb]]:
    """(name, crop): the whole picture, and two crops of each size that fits."""
    yield "whole", picture
    random = np.random.default_rng(seed)
    height, width = picture.shape[:2]
    for size in sizes:
        if height >= size and width >= size:
            yield f"{size}", np.ascontiguousarray(picture[:size, :size])
            y, x = random.integers(height - size + 1), random.integers(width - size + 1)
            yield f"{size}", np.ascontiguousarray(picture[y : y + size, x : x + size])


def look(folder: Path, sizes: list[int]) -> None:
    """A line per picture found, and a count per folder and size."""
    found: dict[str, int] = {}
    seen: dict[str, int] = {}
    for number, path in enumerate(list_pictures(folder)):
        for name, picture in crops_of(read_rgb(path), sizes, number):
            seen[name] = seen.get(name, 0) + 1
            evidence = find_jpeg(picture)
            if evidence is None:
                continue
            found[name] = found.get(name, 0) + 1
            table = evidence.tables.luma
            grids = [(row, column) for row in range(8) for column in range(8) if (row, column) != evidence.phase]
            control = max(share_on_steps(picture, table, grid) for grid in grids)
            tables = f"quality {evidence.quality}" if evidence.quality else "other tables"
            print(
                f"{path.stem} ({name}): {tables}, grid at {evidence.phase},"
                f" {share_on_steps(picture, table, evidence.phase):.3f} on steps"
                f" (other grids at most {control:.3f})"
            )
    counts = ", ".join(f"{name}: {found.get(name, 0)} of {number}" for name, number in seen.items())
    print(f"{folder}: saved as JPEG before: {counts}")


def look_at_saved(folders: list[Path]) -> None:
    """A row per quality: how many are found, and found right."""
    pictures = [read_rgb(path) for folder in folders for path in list_pictures(folder)]
    print("| saved as | pictures | found | mean step right |\n|---|---|---|---|")
    for quality in (10, 30, 50, 75, 90, 95, None):
        luma = _SLANTED if quality is None else ijg_tables(quality).luma
        found = right = 0
        for picture in pictures:
            buffer = io.BytesIO()
            if quality is None:
                tables = [_SLANTED.ravel().tolist()] * 2
                Image.fromarray(picture).save(buffer, "JPEG", qtables=tables, subsampling=2)
            else:
                Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=2)
            evidence = find_jpeg(np.ascontiguousarray(np.asarray(Image.open(buffer))[3:, 5:]))
            if evidence is not None:
                found += 1
                right += 2 / 3 < float(evidence.tables.luma.mean()) / float(luma.mean()) < 1.5
        name = "other tables" if quality is None else f"quality {quality}"
        print(f"| {name} | {len(pictures)} | {found} | {right} |", flush=True)


def main() -> None:
    """Prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--crops", nargs="+", type=int, default=[], metavar="SIDE")
    parser.add_argument("--saved", action="store_true")
    options = parser.parse_args()
    if options.saved:
        look_at_saved(options.folders)
        return
    for folder in options.folders:
        look(folder, options.crops)


if __name__ == "__main__":
    main()
