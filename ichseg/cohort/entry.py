"""One scan of many: what a manifest says of it, each cell read and checked."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ichseg.errors import InputError
from ichseg.files.labels import types_of_labels
from ichseg.files.names import lesions_path
from ichseg.marks.box import Box
from ichseg.marks.lesion import MAX_LESIONS, Lesion
from ichseg.replace_file import inputs_of

#: What a manifest may say of a scan. ``scan`` is needed; a run says what else.
COLUMNS = (
    *("scan", "boxes", "session", "truth", "out", "series", "add_offset"),
    *("lesions", "propagate", "auto", "model", "edge", "mask", "baseline", "hours"),
)

#: Of these, what decides a mask besides the files (``jobs``).
DECIDES = ("boxes", "out", "series", "add_offset", "lesions", "propagate", "auto", "edge")

#: How spreadsheets write yes and no, in English and in the languages of most of Europe.
_YES = frozenset(("yes", "y", "true", "1", "x", "ja", "wahr", "oui", "vrai", "si", "sí", "vero"))
_NO = frozenset(("no", "n", "false", "0", "nein", "nee", "falsch", "non", "faux", "falso"))


@dataclass(frozen=True)
class Entry:
    """One scan of a manifest. What is None is not said, and goes by what is said for all (``with_defaults``)."""

    number: int
    """From 1, in the manifest's order; what files and messages call the scan."""
    scan: str
    """As the manifest writes it."""
    path: Path
    boxes: str = ""
    """As ``parse_prompts`` reads them."""
    session: Path | None = None
    truth: Path | None = None
    out: str = ""
    """The mask's file name below the output folder; a neutral one where empty."""
    series: str | None = None
    add_offset: int | None = None
    lesions: str = ""
    """Types by lesion, as ``--label`` takes them, several apart by spaces: ``1=IPH 2=IVH``."""
    propagate: bool | None = None
    auto: bool | None = None
    model: str | None = None
    edge: bool | None = None
    mask: Path | None = None
    """A mask that was made before, to be measured."""
    baseline: str = ""
    """Which row's scan this one is the follow-up of: its ``scan``, or its number."""
    hours: float | None = None
    """From that scan to this one."""

    @property
    def inputs(self) -> list[Path]:
        """All files and folders that are read for this scan."""
        found = inputs_of(self.path)
        if self.session is not None:
            found.append(self.session)
        for mask in (self.truth, self.mask):
            if mask is not None:
                found += [*inputs_of(mask), lesions_path(mask)]
        return found

    @property
    def types(self) -> dict[int, str]:
        """The types of its lesions by number. Raises InputError where they are none."""
        return types_of_labels(self.lesions.replace(",", " ").replace(";", " ").split())

    def with_defaults(
        self,
        *,
        propagate: bool = False,
        auto: bool = False,
        model: str | None = None,
        edge: bool | None = None,
        series: str | None = None,
        add_offset: int | None = None,
        lesions: str = "",
        hours: float | None = None,
    ) -> Entry:
        """The same scan, with what is said for all scans where the manifest says nothing of this one.

        Lesions are said of scans that are marked by boxes or a mask, hours of scans that have a baseline.
        """
        automatic = (
            (auto and not self.boxes and self.session is None) if self.auto is None else self.auto
        )
        brings_lesions = automatic or self.session is not None
        return replace(
            self,
            propagate=propagate if self.propagate is None else self.propagate,
            auto=automatic,
            model=self.model or model,
            edge=edge if self.edge is None else self.edge,
            series=self.series or series,
            add_offset=add_offset if self.add_offset is None else self.add_offset,
            lesions=self.lesions or ("" if brings_lesions else lesions),
            hours=hours if self.hours is None and self.baseline else self.hours,
        )


Prompts = dict[tuple[int, int], list[Box]]
"""Boxes by (slice from 0, lesion)."""


def parse_prompts(text: str) -> Prompts:
    """Read a manifest's boxes: ``SLICE:X0,Y0,X1,Y1``, of another lesion than 1 with ``@LESION``; apart by spaces.

    >>> found = parse_prompts("12:120,80,180,140 12:90,60,99,66@2 13:118;82;181,5;139")
    >>> list(found), found[13, 1][0].xyxy
    ([(12, 1), (12, 2), (13, 1)], (118.0, 82.0, 181.5, 139.0))
    """
    boxes: Prompts = {}
    for part in text.split():
        k, colon, rest = part.partition(":")
        if not (colon and k.isdecimal()):
            raise InputError(
                f"A manifest's box is SLICE:X0,Y0,X1,Y1, the slice from 0; got '{part}'; "
                "give e.g. 12:120,80,180,140, several apart by spaces."
            )
        lesion, box = parse_box(rest)
        boxes.setdefault((int(k), lesion), []).append(box)
    return boxes


def parse_box(text: str) -> tuple[int, Box]:
    """A box and the number of its lesion, which follows it after an @ and is 1 unless given.

    >>> number, box = parse_box("90,60,99,66@2")
    >>> number, box.xyxy
    (2, (90.0, 60.0, 99.0, 66.0))
    """
    box, at, lesion = text.partition("@")
    if at and not (lesion.isdecimal() and lesion.isascii() and 1 <= int(lesion) <= MAX_LESIONS):
        raise InputError(
            f"After its @ a box has the number of its lesion, 1 to {MAX_LESIONS}; got '{text}'; give e.g. "
            "90,60,99,66@2."
        )
    return int(lesion or 1), Box.parse(box)


def parse_boxes(text: str) -> dict[int, list[Box]]:
    """The same, of all lesions together: boxes by slice.

    >>> parse_boxes("12:120,80,180,140 13:118;82;181;139")[13][0].xyxy
    (118.0, 82.0, 181.0, 139.0)
    """
    found: dict[int, list[Box]] = {}
    for (k, _), boxes in parse_prompts(text).items():
        found.setdefault(k, []).extend(boxes)
    return found


def lesions_of(prompts: Prompts, types: Mapping[int, str]) -> tuple[Lesion, ...]:
    """The lesions of some boxes, with the types that are said; those without a box, too, where a type is said.

    >>> [(one.id, one.type) for one in lesions_of(parse_prompts("3:1,1,5,5 3:6,6,9,9@2"), {2: "IVH"})]
    [(1, 'unspecified'), (2, 'IVH')]
    """
    numbers = sorted({lesion for _, lesion in prompts} | types.keys())
    return tuple(Lesion(n, type=types[n]) if n in types else Lesion(n) for n in numbers)


def entry_of(number: int, row: Mapping[str, str | None], folder: Path) -> Entry:
    """A row of a manifest in a folder. Raises InputError for a cell that cannot be what its column holds."""
    value = {name: (row.get(name) or "").strip() for name in COLUMNS}

    def place(name: str) -> Path | None:
        return _there(folder / value[name]) if value[name] else None

    return Entry(
        number=number,
        scan=value["scan"],
        path=_there(folder / value["scan"]),
        boxes=value["boxes"],
        session=place("session"),
        truth=place("truth"),
        out=value["out"],
        series=value["series"] or None,
        add_offset=_whole_hu(number, value["add_offset"]),
        lesions=value["lesions"],
        propagate=_yes_or_no(number, "propagate", value["propagate"]),
        auto=_yes_or_no(number, "auto", value["auto"]),
        model=value["model"] or None,
        edge=_yes_or_no(number, "edge", value["edge"]),
        mask=place("mask"),
        baseline=value["baseline"],
        hours=_hours(number, value["hours"]),
    )


def _whole_hu(number: int, text: str) -> int | None:
    try:
        found = float(text.replace(",", ".")) if text else None
    except ValueError:
        found = math.nan
    if found is not None and not found.is_integer():
        raise InputError(
            f"add_offset is a whole number of HU; row {number} of the manifest has "
            f"'{text}'; give e.g. -1024, or leave it empty."
        )
    return None if found is None else int(found)


def _hours(number: int, text: str) -> float | None:
    try:
        found = float(text.replace(",", ".")) if text else None
    except ValueError:
        found = math.nan
    if found is not None and not (math.isfinite(found) and found > 0):
        raise InputError(
            f"hours are a number above 0, from the baseline's scan to this one; row {number} of the manifest has "
            f"'{text}'; give e.g. 6.5, or leave it empty."
        )
    return found


def _yes_or_no(number: int, name: str, text: str) -> bool | None:
    wanted = text.lower()
    if wanted and wanted not in _YES | _NO:
        raise InputError(
            f"{name} is yes or no; row {number} of the manifest has '{text}'; correct it, or leave it empty."
        )
    return wanted in _YES if wanted else None


def _there(path: Path) -> Path:
    """The file of a name with accents, which are one sign or two on disk and look alike in a table."""
    if path.exists():
        return path
    spelled = (Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))
    return next((one for one in spelled if one.exists()), path)
