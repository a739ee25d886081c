"""The report over many scans: one HTML file that needs no network, the odd scans first, each to be corrected.

What is read are the records in the folder of the results. Scans and masks are read for the pictures alone, each of
which is made once and kept in ``pictures`` below that folder.
"""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from ichseg import NOTICE
from ichseg.cohort.corrections import CORRECTED_NAME
from ichseg.cohort.entry import Entry
from ichseg.cohort.folders import RECORD_ENDING
from ichseg.cohort.pool import Failure, each
from ichseg.cohort.results import RESULTS_NAME
from ichseg.cohort.study import StudyRow
from ichseg.errors import InputError
from ichseg.files.mask import read_labelled_mask
from ichseg.files.picture import jpeg_bytes, render_slice
from ichseg.json_fields import RecordError, load_json
from ichseg.marks.lesion import Lesion
from ichseg.replace_file import write_whole
from ichseg.scan.read import read_volume

REPORT_NAME = "report.html"

#: Below the folder of the results: the pictures that were made.
PICTURES_NAME = "pictures"

#: The longer side of a picture, in pixels.
PICTURE_PX = 256

#: A range that is this share of the volume, or wider, makes a scan odd.
WIDE_RANGE = 0.5

#: Why a propagation ended, where that is no end of the blood itself.
_EARLY = ("growth", "bone", "overlap", "iou", "cancelled")


@dataclass(frozen=True)
class Odd:
    """A reason to look at a scan, and how far it moves the scan to the front."""

    text: str
    weight: int


@dataclass(frozen=True)
class Shown:
    """One scan of the report."""

    entry: Entry
    record: Mapping[str, Any] | None = None
    error: str = ""
    odd: tuple[Odd, ...] = ()
    rows: Sequence[Mapping[str, Any]] = field(default=())

    @property
    def weight(self) -> int:
        """How odd it is."""
        return sum(one.weight for one in self.odd)

    @property
    def blood_ml(self) -> float | None:
        """All blood."""
        return self.rows[0]["blood_ml"] if self.rows else None


def report_html(
    entries: Sequence[Entry],
    folder: Path,
    *,
    with_names: bool = False,
    page_url: str = "http://127.0.0.1:7860",
    where: str | None = None,
    on_done: Callable[[], None] = lambda: None,
) -> bytes:
    """The report of a run's results as one HTML file.

    Args:
        entries: the scans, as the run had them.
        folder: of the results.
        with_names: whether the scans' names in the manifest are shown; else their numbers alone.
        page_url: where the page answers in which a scan is corrected.
        where: as of ``pool.each``, for the pictures.
        on_done: called when a scan's picture is there.

    Raises:
        InputError: the folder has no record of any of the scans.

    """
    errors = _errors(folder)
    shown = [_shown(entry, folder, errors, with_names) for entry in entries]
    if not any(one.record for one in shown):
        raise InputError(
            f"A report is of results; {folder.name} has no record of these scans; run ichseg segment with this --out "
            "first."
        )
    jobs = [Picture(one.entry, folder, one.record) for one in shown if one.record]
    pictures: dict[int, bytes] = {}
    for i, found in each(_do, jobs, where=where):
        if not isinstance(found, Failure):
            pictures[jobs[i].entry.number] = found
        on_done()
    return _page(shown, pictures, with_names, page_url)


def _errors(folder: Path) -> dict[str, Mapping[str, str]]:
    """The rows of scans that were passed over, by number; the kind of an error names no file, its sentence may."""
    path = folder / RESULTS_NAME
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row.get("number", ""): row for row in csv.DictReader(file) if row.get("error")}


def _shown(
    entry: Entry, folder: Path, errors: Mapping[str, Mapping[str, str]], with_names: bool
) -> Shown:
    for name in ("scan", "measures"):
        path = folder / f"{name}-{entry.number:04d}.json"
        try:
            record = load_json(path) if path.is_file() else None
        except (OSError, RecordError):
            record = None
        if isinstance(record, dict) and record.get("rows"):
            return Shown(entry, record, "", _odd(record), rows=record["rows"])
    row = errors.get(str(entry.number), {})
    kind = row.get("error_kind") or "not run yet"
    error = (with_names and row.get("error")) or "Passed over; results.csv says why."
    return Shown(entry, error=error, odd=(Odd(f"no result: {kind}", 100),))


def _odd(record: Mapping[str, Any]) -> tuple[Odd, ...]:
    """What is odd about a scan, the worst first."""
    rows, found = record["rows"], []
    if not any(row["voxels"] for row in rows):
        found.append(Odd("nothing found", 50))
    if record.get("same_mask") is False:
        found.append(Odd("not the record's own mask", 20))
    stops = [
        (stop["reason"], stop["sentence"])
        for one in record.get("propagated", ())
        for stop in (one.get("parameters") or {}).get("stops", ())
    ]
    found += [Odd(f"propagation {text}", 20) for why, text in stops if why in _EARLY]
    found += [Odd(f"propagation {text}", 5) for why, text in stops if why == "end"]
    for row in rows:
        low, high, ml = (row.get(k) for k in ("range_low_ml", "range_high_ml", "volume_ml"))
        if ml and low is not None and high is not None and (high - low) >= WIDE_RANGE * ml:
            found.append(
                Odd(f"wide range of lesion {row['lesion']}: {low:.1f} to {high:.1f} mL", 10)
            )
    found += [Odd(text, 15) for text in record["scan"].get("warnings", ())]
    found += [Odd(one["sentence"], 15) for one in record.get("looks", ()) if one.get("sentence")]
    if any(row["extent"] == "automatic" for row in rows):
        found.append(Odd("automatic: nobody has looked", 4))
    if any(row["extent"] == "boxed slices" for row in rows):
        found.append(Odd("boxed slices alone", 3))
    return tuple(sorted(found, key=lambda one: -one.weight))


# --- Pictures --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """The picture of one scan: the slice with most blood and the outline of each lesion; made once for a record."""

    entry: Entry
    folder: Path
    record: Mapping[str, Any] | None

    def __call__(self) -> bytes:
        """As JPEG."""
        assert self.record is not None
        name = f"scan-{self.entry.number:04d}-{str(self.record.get('key', ''))[:12]}.jpg"
        path = self.folder / PICTURES_NAME / name
        if path.is_file():
            return path.read_bytes()
        entry = self.entry
        volume = read_volume(entry.path, series=entry.series, add_offset=entry.add_offset or 0)
        mask = self.folder / self.record["mask"] if "mask" in self.record else entry.mask
        assert mask is not None
        given = read_labelled_mask(mask, volume)
        k = int(np.argmax((given.labels_zyx != 0).sum(axis=(1, 2))))
        lesions = given.lesions or (Lesion(1),)
        # Without lesions a mask's one label may be any number.
        labels = given.labels_zyx[k] if given.lesions else (given.labels_zyx[k] != 0).astype(int)
        dy, dx = volume.geometry.spacing_yx_mm
        rows, columns = volume.shape_zyx[1:]
        longest_px = max(rows * dy, columns * dx) / min(dy, dx)
        rgb = render_slice(
            volume,
            k,
            mask_yx=labels,
            scale=PICTURE_PX / longest_px,
            opacity=0.0,
            letters=False,
            colours={lesion.id: lesion.rgb for lesion in lesions},
        )
        content = jpeg_bytes(rgb)
        path.parent.mkdir(exist_ok=True)
        for old in path.parent.glob(f"scan-{entry.number:04d}-*.jpg"):
            old.unlink(missing_ok=True)
        write_whole(path, content)
        return content


def _do(job: Picture) -> bytes:
    return job()


# --- The page --------------------------------------------------------------------------------------


def _page(
    shown: Sequence[Shown], pictures: Mapping[int, bytes], with_names: bool, page_url: str
) -> bytes:
    parts = resources.files("ichseg.cohort") / "report_page"
    template = Template((parts / "report.html").read_text(encoding="utf-8"))
    ordered = sorted(shown, key=lambda one: (-one.weight, one.entry.number))
    done = [one for one in shown if one.record]
    text = template.substitute(
        style=(parts / "report.css").read_text(encoding="utf-8"),
        script=(parts / "report.js").read_text(encoding="utf-8"),
        rows="\n".join(
            _row(one, pictures.get(one.entry.number), with_names, page_url) for one in ordered
        ),
        scans=len(shown),
        done=len(done),
        odd=sum(bool(one.odd) for one in shown),
        notice=escape(NOTICE),
        page_url=escape(page_url, quote=True),
        corrected=CORRECTED_NAME,
    )
    return text.encode()


def _row(one: Shown, picture: bytes | None, with_names: bool, page_url: str) -> str:
    number = one.entry.number
    ml = one.blood_ml
    name = f'<span class="name">{escape(one.entry.scan)}</span>' if with_names else ""
    marks = "".join(
        f'<li class="{"bad" if odd.weight >= 15 else "mild"}">{escape(odd.text)}</li>'
        for odd in one.odd
    )
    cells = {
        "number": (number, f"<b>{number}</b>{name}"),
        "picture": ("", _image(number, picture)),
        "ml": (-1.0 if ml is None else ml, _volumes(one)),
        "range": (_width(one), _range(one)),
        "odd": (one.weight, f"<ul>{marks}</ul>" if marks else "nothing"),
        "correct": ("", _record_link(one, page_url)),
    }
    inner = "".join(
        f'<td class="{key}" data-value="{value}">{text}</td>'
        for key, (value, text) in cells.items()
    )
    return f'<tr id="scan-{number}" data-odd="{one.weight}">{inner}</tr>'


def _image(number: int, picture: bytes | None) -> str:
    if picture is None:
        return '<span class="none">no picture</span>'
    data = base64.b64encode(picture).decode()
    alt = f"Scan {number}: the slice with most blood, each lesion outlined"
    return f'<img alt="{alt}" src="data:image/jpeg;base64,{data}">'


def _volumes(one: Shown) -> str:
    if not one.rows:
        return escape(one.error)
    lines = []
    for row in one.rows:
        of = row.get("type") or "unspecified"
        name = "" if of == "unspecified" and len(one.rows) == 1 else f" {escape(of)}"
        lines.append(f"<div>{row['volume_ml']:.1f} mL{name}</div>")
    if len(one.rows) > 1:
        lines.insert(0, f"<div><b>{one.blood_ml:.1f} mL</b> all blood</div>")
    slices = max(row["slices_marked"] for row in one.rows)
    extent = escape(str(one.rows[0]["extent"]))
    lines.append(f'<div class="soft">{slices} slice{"s" * (slices != 1)}, {extent}</div>')
    model = escape(str(one.rows[0].get("model") or "by hand"))
    return "".join(lines) + f'<div class="soft">{model}</div>'


def _width(one: Shown) -> float:
    """How wide the widest range is, as a share of its volume."""
    shares = [
        (row["range_high_ml"] - row["range_low_ml"]) / row["volume_ml"]
        for row in one.rows
        if row.get("range_high_ml") is not None and row["volume_ml"]
    ]
    return max(shares, default=-1.0)


def _range(one: Shown) -> str:
    texts = [
        f"<div>{row['range_low_ml']:.1f} to {row['range_high_ml']:.1f} mL</div>"
        for row in one.rows
        if row.get("range_low_ml") is not None
    ]
    return "".join(texts) or "-"


def _record_link(one: Shown, page_url: str) -> str:
    """The way to the page that was started for the study; and the record, for a page that was not."""
    record = one.record
    if record is None or "model" not in record:
        return "-"
    kept = {k: v for k, v in record.items() if k not in ("rows", "key", "mask", "seconds")}
    data = base64.b64encode(json.dumps(kept, allow_nan=False).encode()).decode()
    name = f"scan-{one.entry.number:04d}{RECORD_ENDING}"
    key = StudyRow(one.entry, record["scan"]["sha256"]).key
    href = escape(f"{page_url.rstrip('/')}/?scan={key}", quote=True)
    return (
        f'<div><a href="{href}" target="_blank" rel="noopener">Correct on the page</a></div>'
        f'<div><a download="{name}" href="data:application/json;base64,{data}">Save the record</a></div>'
    )
