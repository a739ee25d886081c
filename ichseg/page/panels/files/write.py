"""Files for a person to take away, each in a folder that the page fetches from; no name has a patient's data."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ichseg.arrays import Labels
from ichseg.files import write
from ichseg.files.names import SESSION, SLICES, file_name, lesions_path, mask_name, picture_ending
from ichseg.files.picture import slice_png
from ichseg.files.records import json_bytes
from ichseg.files.regular_grid import regular_grid_files
from ichseg.files.tables import slices_csv
from ichseg.marks.document import Segmentation
from ichseg.marks.lesion import Lesion
from ichseg.measures.assessment import Assessment
from ichseg.methods.catalogue import method_of
from ichseg.methods.frame import Window
from ichseg.page.measuring import Method, marks_record_of
from ichseg.page.protocol import SliceIndex
from ichseg.replace_file import write_whole
from ichseg.scan.volume import CTVolume

#: Downloads of no writer: a mask, the slices' millilitres, a slice as seen, the session, a resampled copy.
OWN_KINDS = ("mask", "table", "picture", "record", "regular")


def kinds() -> tuple[str, ...]:
    """All kinds of download: OWN_KINDS, and the keys of the writers of what was measured."""
    return (*OWN_KINDS, *(row.key for row in write.WRITERS if "measures" in row.offered))


def menu_items() -> str:
    """The items of the menu of downloads, one for each writer with a note for it."""
    return "\n    ".join(
        f'<button type="button" role="menuitem" tabindex="-1" data-save="{escape(row.key)}">'
        f"{escape(row.title)} <small>{escape(row.note)}</small></button>"
        for row in write.WRITERS
        if "measures" in row.offered and row.note
    )


@dataclass(frozen=True)
class View:
    """What is on screen, for a picture of it."""

    slice: SliceIndex = 0
    width: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = 80.0
    """Of the window, in HU."""
    level: Annotated[float, Field(ge=-100_000, le=100_000, allow_inf_nan=False)] = 40.0
    """The window's centre, in HU."""
    opacity: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Of the masks' fill; 0 for their outline alone."""


def write_evidence(folder: Path, row: write.Writer, found: Assessment) -> list[Path]:
    """Write an assessment in a format into a folder, and return what was written; raises as ``write.save`` does.

    A DICOM-SEG has no patient's identity: the command line alone copies it, where it is asked to.
    """
    return write.save_measures(folder / file_name(found.volume, row.name), found)


def write_marked(
    folder: Path,
    kind: str,
    marked: Segmentation,
    volume: CTVolume,
    method: Method,
    view: View,
) -> list[Path]:
    """Write a mask, table, picture or (else) the session's record of a method's masks; the file asked for comes first.

    ``view`` is for the picture. A mask of lesions brings the file beside it that says what its labels are
    (``write.save_mask``).
    """
    model = method.name
    if kind == "picture":
        k, lesions = view.slice, marked.lesions
        visible = [lesion for lesion in lesions if lesion.visible]
        path = folder / file_name(volume, picture_ending(k))
        write_whole(
            path,
            slice_png(
                volume,
                k,
                mask_yx=marked.slice_labels(model, k),
                boxes=[box for lesion in visible for box in marked.boxes(k, lesion.id)],
                colours={lesion.id: lesion.rgb for lesion in visible},
                box_colour=method_of(model).rgb,
                window=Window(view.width, view.level),
                scale=2.0,
                opacity=view.opacity,
                caption=f"Scan {volume.called}, slice {k + 1} of {volume.shape_zyx[0]} (--slice {k}), {method.title}",
            ),
        )
        return [path]
    if kind == "mask":
        path = folder / mask_name(volume)
        # As the command line has it: the one lesion there is from the start makes a mask of 0 and 1.
        made = "" if method.identity is None else method.identity.short
        write.save_marked(path, marked, model, volume, made=made)
        beside = lesions_path(path)
        return [path, *([beside] if beside.is_file() else [])]
    if kind == "table":
        path = folder / file_name(volume, SLICES)
        content = slices_csv(marked.labels_zyx(model), volume, marked.lesions, method=model)
        write_whole(path, content)
        return [path]
    path = folder / file_name(volume, SESSION)
    write_whole(path, json_bytes(marks_record_of(marked, volume, method)))
    return [path]


def write_regular(
    folder: Path, labels_zyx: Labels, lesions: list[Lesion], volume: CTVolume, method: Method
) -> tuple[list[Path], str]:
    """Write scan and mask resampled to a regular grid; the files, and what to say beside them."""
    files, said = regular_grid_files(
        volume,
        labels_zyx,
        lesions,
        method=method.name,
        made="" if method.identity is None else method.identity.short,
    )
    for name, content in files.items():
        write_whole(folder / name, content)
    return [folder / name for name in files], said
