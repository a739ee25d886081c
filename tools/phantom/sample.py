"""Make the synthetic head CT and its reference mask: `python -m tools.phantom.sample`.

A development-time tool. The anatomy of the brain comes from the MNI152 maps that nilearn ships:

    pip install --no-deps nilearn==0.14.1

(nilearn itself is never imported, only its data files are read, so nothing that it needs is needed). The same
parameters give the same voxels again; the follow-up scan of the same head is another HeadPhantom.
"""

from __future__ import annotations

import argparse
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ichseg.replace_file import write_whole
from ichseg.sample import sample_paths
from tools.phantom.head import Head, Hematoma
from tools.phantom.scanner import scan
from tools.phantom.shapes import Floats, Vector, column

SIZE, PIXEL_MM = 512, 0.45
HEAD_SCALE = 0.94  # the MNI152 brain is larger than people's
HEAD_CENTRE = (0.0, -17.0, 0.0)  # MNI point that lies at the scanner's centre


@dataclass(frozen=True)
class Stack:
    """The slices of a scan: how many, how thick, where the first one's centre lies, and of how many planes each is."""

    slices: int = 30
    slice_mm: float = 5.0
    lowest_mm: float = -54.0
    planes: int = 5


SAMPLE = Stack()


@dataclass(frozen=True)
class HeadPhantom:
    """One scan of the synthetic head.

    hematoma_scale: volume of the intraparenchymal hematoma, relative to the sample's.
    rotation_degrees: of the head about x (nod), y (roll) and z (turn).
    translation_mm: of the head to the right, front and top.
    seed: of the scan's noise; the anatomy stays the same.
    """

    hematoma_scale: float = 1.0
    rotation_degrees: Vector = (3.0, 2.0, 4.0)
    translation_mm: Vector = (-2.0, 3.0, 0.0)
    seed: int = 1

    def to_head(self, points_mm: Floats) -> Floats:
        """Scanner RAS mm [3, n] -> head coordinates."""
        moved = points_mm - column(self.translation_mm)
        return (rotation(self.rotation_degrees).T @ moved) / HEAD_SCALE + column(HEAD_CENTRE)


BASELINE = HeadPhantom()
#: The same person some hours later, put on the table anew: turned by about 10 degrees and moved by
#: 9 mm against the baseline, the hematoma 40 % larger, the noise another.
FOLLOWUP = HeadPhantom(
    hematoma_scale=1.4, rotation_degrees=(2.0, 1.0, -6.0), translation_mm=(4.0, -3.0, 2.0), seed=2
)


def rotation(degrees: Vector) -> Floats:
    """Rotation matrix: about x, then y, then z."""
    result = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        c, s = np.cos(angle), np.sin(angle)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = c
        turn[i, j], turn[j, i] = -s, s
        result = turn @ result
    return result.astype(np.float32)


def holder(x: Floats, y: Floats) -> Floats:
    """HU of the head holder's thin shell and foam, -1000 elsewhere."""
    # Upright sides, a round bottom.
    radius = np.hypot(x, np.minimum(y + 12, 0))
    shell = np.clip(1.9 - np.abs(radius - 98.0), 0, 1) * (y < 34)
    return (-1000.0 + 1190.0 * shell).astype(np.float32)


def ideal_slice(head: Head, phantom: HeadPhantom, k: int, stack: Stack = SAMPLE) -> Floats:
    """HU, IPH share and IVH share [3, y, x] of slice `k`, averaged through its thickness."""
    axis = (np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2) * PIXEL_MM
    y, x = (a.ravel() for a in np.meshgrid(-axis, -axis, indexing="ij"))
    result = np.zeros((3, SIZE * SIZE), np.float32)
    # The planes lie a bit differently in each pixel, so that slanting bone shows no steps.
    row, column = np.divmod(np.arange(SIZE * SIZE), SIZE)
    within = (row * 0.5698403 + column * 0.7548777) % 1.0  # evenly spread over neighbours
    for plane in range(stack.planes):
        part = (plane + within) / stack.planes - 0.5
        z = (stack.lowest_mm + (k + part) * stack.slice_mm).astype(np.float32)
        result += np.stack(head.at(phantom.to_head(np.stack([x, y, z])), y)) / stack.planes
    result[0] = np.maximum(result[0], holder(x, y))
    return result.reshape(3, SIZE, SIZE)


def reference_of(iph: Floats, ivh: Floats) -> NDArray[np.uint8]:
    """Labels of voxels that blood fills at least by half: 1 where most of it is IPH, else 2."""
    return np.where(iph + ivh >= 0.5, np.where(iph >= ivh, 1, 2), 0).astype(np.uint8)


def make(phantom: HeadPhantom) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """The scan in HU and its reference mask (1 = IPH, 2 = IVH), both [z, y, x] as radiologists look at it."""
    head = Head(Hematoma(phantom.hematoma_scale))
    ideal = np.stack([ideal_slice(head, phantom, k) for k in range(SAMPLE.slices)])
    hu = scan(ideal[:, 0], PIXEL_MM, phantom.seed)
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16), reference_of(
        ideal[:, 1], ideal[:, 2]
    )


def write_nifti(
    path: Path, array_zyx: NDArray[np.int16] | NDArray[np.uint8], stack: Stack = SAMPLE
) -> None:
    """Write [z, y, x] as RAS NIfTI-1, the same bytes each time (gzip level 9, no time stamp)."""
    data = np.ascontiguousarray(array_zyx[:, ::-1, ::-1])  # x to the right, y to the front
    code = {"int16": 4, "uint8": 2}[data.dtype.name]
    corner = -(SIZE - 1) / 2 * PIXEL_MM
    header = np.zeros(352, np.uint8)

    def put(offset: int, dtype: str, *values: float) -> None:
        raw = np.asarray(values, dtype).tobytes()
        header[offset : offset + len(raw)] = np.frombuffer(raw, np.uint8)

    put(0, "<i4", 348)
    put(40, "<i2", 3, SIZE, SIZE, stack.slices, 1, 1, 1, 1)
    put(70, "<i2", code, data.itemsize * 8)
    put(76, "<f4", 1, PIXEL_MM, PIXEL_MM, stack.slice_mm, 0, 0, 0, 0, 352, 1, 0)
    header[123] = 2  # millimetres
    header[148:174] = np.frombuffer(b"synthetic head CT, ichseg ", np.uint8)
    put(252, "<i2", 1, 1)  # qform and sform: scanner coordinates
    put(268, "<f4", corner, corner, stack.lowest_mm)
    put(
        280,
        "<f4",
        PIXEL_MM,
        0,
        0,
        corner,
        0,
        PIXEL_MM,
        0,
        corner,
        0,
        0,
        stack.slice_mm,
        stack.lowest_mm,
    )
    put(344, "S4", b"n+1")  # type: ignore[arg-type]
    payload = header.tobytes() + data.astype(data.dtype.newbyteorder("<")).tobytes()
    write_whole(path, gzip.compress(payload, 9, mtime=0))


def main() -> None:
    """Write the two scans with their reference masks, into another folder where one is named."""
    parser = argparse.ArgumentParser(
        description="Make the synthetic head CTs and their reference masks."
    )
    parser.add_argument("--folder", type=Path, default=sample_paths()[0].parent)
    parser.add_argument("--followup-only", action="store_true", help="leave the baseline alone")
    options = parser.parse_args()
    for phantom in (FOLLOWUP,) if options.followup_only else (BASELINE, FOLLOWUP):
        ct, mask = (options.folder / path.name for path in sample_paths(phantom is FOLLOWUP))
        hu, reference = make(phantom)
        write_nifti(ct, hu)
        write_nifti(mask, reference)
        print(f"{ct.name}: {ct.stat().st_size / 1e6:.2f} MB, {mask.name}")


if __name__ == "__main__":
    main()
