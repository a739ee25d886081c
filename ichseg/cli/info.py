"""``ichseg info``: what a scan is."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from rich.table import Table

from ichseg.cli.archive import place_of
from ichseg.cli.inputs import read_scan
from ichseg.cli.options import AddOffset, AsJson, Scan, Series
from ichseg.cli.show import print_json, print_people
from ichseg.files.records import scan_record

if TYPE_CHECKING:
    pass


def info(
    scan: Scan, series: Series = None, add_offset: AddOffset = 0, as_json: AsJson = False
) -> None:
    """Say what a scan is: its grid, spacing, tilt, values, and what is odd about it.

    JSON keys: scan (sha256, shape_zyx, spacing_mm, slice_heights_mm, tilt_degrees, evenly_spaced, warnings, notes),
    hu_range, other_series (key, which --series takes, number, label, slices, derived, refusal,
    short), versions, notice.
    """
    place = place_of(scan, series)
    volume = read_scan(place.path, series, add_offset)
    volume = replace(volume, series=(*volume.series, *place.others))
    hu_range = [float(volume.hu_zyx.min()), float(volume.hu_zyx.max())]
    record = {
        "scan": scan_record(volume),
        "hu_range": hu_range,
        "other_series": [asdict(other) for other in volume.series],
    }
    if as_json:
        print_json(record)
        return
    depth, rows, columns = volume.shape_zyx
    _, dy, dx = volume.spacing_mm
    heights = sorted({f"{height:.2f}" for height in volume.slice_heights_mm}, key=float)
    table = Table("", volume.name)
    table.add_row("Slices", f"{depth} of {columns} x {rows} pixels (x by y)")
    table.add_row("Pixel, mm", f"{dx:.4g} x {dy:.4g}")
    table.add_row("Slice heights, mm", ", ".join(heights))
    table.add_row("Gantry tilt", f"{volume.geometry.tilt_degrees:.1f} degrees")
    table.add_row("Values, HU", f"{hu_range[0]:g} to {hu_range[1]:g}")
    for other in volume.series:
        refused = f" ({other.refusal})" if other.refusal else ""
        key = other.short or (other.key if other.number is None else other.number)
        table.add_row(f"--series {key}", f"{other.label}, {other.slices} slices{refused}")
    print_people(table, volume.remarks)
