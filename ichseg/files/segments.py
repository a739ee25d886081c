"""What the segments of a file say of lesions, in every format that has segments: codes, names and colours."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.sr.coding import Code

from ichseg.marks import lesion
from ichseg.marks.lesion import (
    HEMORRHAGE,
    MAX_NAME,
    TYPES,
    UNSPECIFIED,
    Lesion,
    type_named,
)

ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")


def overlap_notes(name: str, voxels: int) -> tuple[str, ...]:
    """What to say of voxels that are in several segments at once."""
    if not voxels:
        return ()
    return (
        f"In {name} {voxels:,} voxels are in two segments at once: each counts for the later of the two.",
    )


def type_of(kind: Code | None, regions: Sequence[Code], name: str) -> str | None:
    """The lesion type that codes of SNOMED CT (or its older form SRT) name, or else the segment's name; None for none.

    >>> type_of(Code("M-37000", "SRT", "Hemorrhage"), [Code("35764002", "SCT", "Brain ventricle")], "a")
    'IVH'
    >>> type_of(Code("85756007", "SCT", "Tissue"), [], "SDH")
    'SDH'
    """
    if kind is not None:
        for row in TYPES.values():
            its_kind, its_region = codes_of(row.name)
            if kind == its_kind and (not row.region_decides or its_region in regions):
                return row.name
    hemorrhage = kind is not None and kind == _sct(HEMORRHAGE)
    return type_named(name) or (UNSPECIFIED if hemorrhage else None)


def codes_of(lesion_type: str) -> tuple[Code, Code]:
    """Segmented property type and anatomic region of a type of lesion (``lesion.TYPES``)."""
    row = TYPES[lesion_type]
    return _sct(row.code), _sct(row.region)


def _sct(code: lesion.Code) -> Code:
    return Code(code.value, "SCT", code.meaning)


def code_in(text: str) -> Code | None:
    """A code that a text gives as 3D Slicer does, scheme^value^meaning; None where it gives none."""
    scheme, value, meaning = (*text.split("^"), "", "", "")[:3]
    return Code(value, scheme, meaning) if scheme and value else None


def segment_lesion(
    number: int, name: str, lesion_type: str | None, rgb: tuple[int, int, int] | None
) -> Lesion:
    """A segment of a file as a lesion: its name on one line of fitting length, its colour where it has one."""
    line = "".join(letter if letter.isprintable() else " " for letter in name)
    colour = "#{:02X}{:02X}{:02X}".format(*rgb) if rgb else ""
    return Lesion(number, line[:MAX_NAME], lesion_type or UNSPECIFIED, colour)


def unfit_notes(name: str, segments: Sequence[str]) -> tuple[str, ...]:
    """What to say of segments whose type is none of a lesion's."""
    if not segments:
        return ()
    said = ", ".join(f"'{segment}'" for segment in segments[:3])
    more = f" and {len(segments) - 3} more" if len(segments) > 3 else ""
    return (
        f"{name} does not say which kind of lesion {said}{more} is: it is read as blood of no stated type.",
    )
