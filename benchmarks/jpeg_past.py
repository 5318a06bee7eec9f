"""Which pictures were saved as JPEG before, though their files don't say so, and how sure that is.

    python benchmarks/jpeg_past.py ../shared/data/test/set5 ../shared/data/test/set14

For each picture in which the blind estimate finds tables: the IJG quality (or "other tables"), and how many of its
luma coefficients lie within a fifth of a step of a multiple of their step, on the grid that was found and, as a
control, on the 63 others (the largest share of them). Chance gives 0.4.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ns_video.estimate import find_jpeg, share_on_steps
from ns_video.media.pictures import list_pictures, read_rgb


def main() -> None:
    """Prints a line per picture found, and a count per folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", nargs="+", type=Path)
    for folder in parser.parse_args().folders:
        found = 0
        pictures = list_pictures(folder)
        for path in pictures:
            picture = read_rgb(path)
            evidence = find_jpeg(picture)
            if evidence is None:
                continue
            found += 1
            table = evidence.tables.luma
            grids = [(row, column) for row in range(8) for column in range(8) if (row, column) != evidence.phase]
            control = max(share_on_steps(picture, table, grid) for grid in grids)
            print(
                f"{path.stem}: {f'quality {evidence.quality}' if evidence.quality else 'other tables'}, grid at"
                f" {evidence.phase}, {share_on_steps(picture, table, evidence.phase):.3f} on steps"
                f" (other grids at most {control:.3f})"
            )
        print(f"{folder}: {found} of {len(pictures)} were saved as JPEG before")


if __name__ == "__main__":
    main()
