"""The command line: python -m ichseg info | segment | compare | measure.

Every command takes ``--json`` and then prints one JSON object on stdout and nothing else there; progress goes
to stderr. Exit 0, or 2 with one line on stderr that says rule, value and remedy. The keys of the objects stand
in each command's help. In options and in JSON slices are numbered from 0 at the foot end; tables for people show both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ichseg import export, measure
from ichseg.errors import InputError
from ichseg.models import CATALOGUE, available, load_predictor
from ichseg.prompt import Box
from ichseg.segmentation import Segmentation
from ichseg.volume import CTVolume, read_mask, read_volume

if TYPE_CHECKING:
    from ichseg.predictor import Predictor

app = typer.Typer(
    name="ichseg",
    help=f"Hematomas on head CT, from boxes to millilitres. {export.NOTICE}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

Scan = Annotated[
    Path, typer.Argument(metavar="SCAN", help="A head CT: NIfTI file, DICOM folder, or zip.")
]
Slices = Annotated[
    list[int] | None,
    typer.Option("--slice", metavar="K", help="The slice of the next box, from 0. Repeatable."),
]
Boxes = Annotated[
    list[str] | None,
    typer.Option(
        "--box",
        metavar="X0,Y0,X1,Y1",
        help="A box in pixels of the slice, half-open. As many as --slice, in the same order.",
    ),
]
Series = Annotated[
    str | None, typer.Option(help="Which DICOM series of SCAN to read, where there are several.")
]
AddOffset = Annotated[
    int, typer.Option(help="Added to SCAN's values, e.g. -1024 where the file lacks that offset.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout.", metavar="")
]


def main() -> None:
    """Run the command line; bad input is one line on stderr and exit 2."""
    try:
        app()
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def info(
    scan: Scan, series: Series = None, add_offset: AddOffset = 0, as_json: AsJson = False
) -> None:
    """Say what a scan is: its grid, spacing, tilt, values, and what is odd about it.

    JSON keys: scan (sha256, shape_zyx, spacing_mm, slice_heights_mm, tilt_degrees, evenly_spaced, notes), hu_range,
    other_series (key, which --series takes, number, label, slices, derived, refusal), versions, notice.
    """
    volume = _read(scan, series, add_offset)
    hu_range = [float(volume.hu_zyx.min()), float(volume.hu_zyx.max())]
    record = {
        "scan": export.scan_record(volume),
        "hu_range": hu_range,
        "other_series": [asdict(other) for other in volume.series],
    }
    if as_json:
        _print_json(record)
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
        key = other.key if other.number is None else other.number
        refused = f" ({other.refusal})" if other.refusal else ""
        table.add_row(f"--series {key}", f"{other.label}, {other.slices} slices{refused}")
    _print_people(table, volume.notes)


@app.command()
def segment(
    scan: Scan,
    slices: Slices = None,
    boxes: Boxes = None,
    session: Annotated[
        Path | None,
        typer.Option(help="Run a saved record again, in place of --slice, --box and --model."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help=f"{', '.join(CATALOGUE)}, or an adapter's folder or hub id.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the mask: .nii.gz on the scan's grid, or .zip with a PNG a slice."
        ),
    ] = None,
    series: Series = None,
    add_offset: AddOffset = 0,
    as_json: AsJson = False,
) -> None:
    """Segment what is in the boxes, and give its volume.

    JSON keys: schema_version, scan (as of info), boxes (slice, box_xyxy), model, weights_sha256,
    second_look, mask_sha256, slices (slice, area_mm2, height_mm, volume_ml), volume_ml, versions,
    notice; with --session also same_mask. The object is itself a record for --session.
    """
    saved = None
    if session is not None:
        if slices or boxes or model:
            raise InputError(
                "A session brings its own boxes and model; got --session with --slice, --box or --model; "
                "leave them out."
            )
        saved = export.load_session(session)
    prompts = saved.boxes if saved else _prompts(slices, boxes)
    volume = _read(scan, series, add_offset)
    if saved:
        saved.check_scan(volume)
    if out is not None:
        export.check_mask_path(out, volume)
    marked = _marked(volume, prompts)
    predictor = load_predictor(saved.model if saved else model)
    if saved:
        saved.check_weights(predictor.weights_sha256)
    second_look = predictor.second_look if saved is None else saved.second_look
    _predict(marked, volume, predictor, second_look)
    mask_zyx = marked.mask_zyx(predictor.name)
    record = export.session_record(
        volume,
        {k: marked.boxes(k) for k in marked.marked_slices()},
        mask_zyx,
        model=predictor.name,
        weights_sha256=predictor.weights_sha256,
        second_look=second_look,
    )
    notes = list(volume.notes)
    if saved and saved.mask_sha256:
        record["same_mask"] = record["mask_sha256"] == saved.mask_sha256
        notes.append(
            "The mask is the session's, voxel for voxel."
            if record["same_mask"]
            else "The mask differs from the session's in some voxels; versions or hardware differ."
        )
    if out is not None:
        export.save_mask(out, mask_zyx, volume)
        notes.append(f"Mask written to {out}.")
    if as_json:
        _print_json(record)
        return
    _print_people(_volume_table(mask_zyx, volume, predictor.title), notes)


@app.command()
def compare(
    scan: Scan,
    slices: Slices = None,
    boxes: Boxes = None,
    models: Annotated[
        str | None, typer.Option(metavar="A,B,..", help="Model names. Default: all that are here.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="A reference mask on the scan's grid; not 0 is blood.")
    ] = None,
    series: Series = None,
    add_offset: AddOffset = 0,
    as_json: AsJson = False,
) -> None:
    """Run several models on the same boxes, and score them where the truth is given.

    JSON keys: scan (as of info), boxes (slice, box_xyxy), models, caveat, versions, notice. Each of
    models has model, title, weights_sha256, slices, boxed_slices and whole_scan; slices is a list
    with the slice's index. These three hold volume_ml, and with --truth truth_ml, difference_ml
    (model less truth) and dice (null where both are empty).
    """
    prompts = _prompts(slices, boxes)
    names = _names(models)
    volume = _read(scan, series, add_offset)
    truth_zyx = None if truth is None else read_mask(truth, volume) != 0
    marked = _marked(volume, prompts)
    predictors = [load_predictor(name) for name in names]
    for predictor in predictors:
        _predict(marked, volume, predictor, predictor.second_look)
    boxed = marked.marked_slices()
    results = []
    for predictor in predictors:
        mask_zyx = marked.mask_zyx(predictor.name)
        results.append(
            {
                "model": predictor.name,
                "title": predictor.title,
                "weights_sha256": dict(predictor.weights_sha256),
                "slices": [{"slice": k, **_score(mask_zyx, truth_zyx, volume, [k])} for k in boxed],
                "boxed_slices": _score(mask_zyx, truth_zyx, volume, boxed),
                "whole_scan": _score(mask_zyx, truth_zyx, volume, range(len(mask_zyx))),
            }
        )
    caveat = _CAVEAT if truth_zyx is not None else None
    if as_json:
        _print_json(
            {
                "scan": export.scan_record(volume),
                "boxes": export.boxes_record({k: marked.boxes(k) for k in boxed}),
                "models": results,
                "caveat": caveat,
            }
        )
        return
    _print_people(_score_table(results), [*volume.notes, *([caveat] if caveat else [])])


_CAVEAT = (
    "Scored on slices where a person saw blood and drew a box: an optimistic setting, "
    "not what a model finds by itself. The whole scan's truth includes slices without a box."
)


@app.command("measure")
def measure_command(
    scan: Scan,
    mask: Annotated[
        Path,
        typer.Argument(metavar="MASK", help="Its mask on the same grid: 1, or 1 IPH and 2 IVH."),
    ],
    followup: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="SCAN2 MASK2", help="A later scan and its mask: gives the growth."),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            metavar="",
            help="Expansion is growth of more than a threshold, not of at least it.",
        ),
    ] = False,
    series: Series = None,
    add_offset: AddOffset = 0,
    as_json: AsJson = False,
) -> None:
    """Measure a mask, and its growth to a follow-up scan. --series and --add-offset are for SCAN.

    JSON keys: baseline, followup and growth (both null without --followup), versions, notice. A
    scan's: scan (as of info), volume_ml, iph_ml and ivh_ml (null where no mask has label 2), slices
    (slice, area_mm2, height_mm, volume_ml), hu (voxels, mean, sd, minimum, median, maximum; null for
    an empty mask). growth: growth_ml, growth_percent, of (iph or all blood), strict, definitions
    (classic, absolute, revised: expansion, which is null where IVH is not told apart, rule, source).
    """
    first = _read(scan, series, add_offset)
    masks = [(first, _labels(mask, first))]
    if followup is not None:
        second = _read(followup[0], None, 0)
        masks.append((second, _labels(followup[1], second)))
    told_apart = any((labels == measure.IVH).any() for _, labels in masks)
    measured = [_measured(volume, labels, told_apart) for volume, labels in masks]
    growth = _growth(measured[0], measured[1], strict) if followup is not None else None
    if as_json:
        later = measured[1] if followup is not None else None
        _print_json({"baseline": measured[0], "followup": later, "growth": growth})
        return
    for title, (volume, labels) in zip(("Baseline", "Follow-up"), masks, strict=False):
        _print_people(_volume_table(labels, volume, f"{title}: {volume.name}"), volume.notes, "")
    if growth is not None:
        _print_people(_growth_table(growth), _growth_notes(growth), "")
    _print_people(_measures_table(measured), ())


# Input


def _read(path: Path, series: str | None, add_offset: int) -> CTVolume:
    with Console(stderr=True).status(f"Reading {path.name}"):
        return read_volume(path, series=series, add_offset=add_offset)


def _prompts(slices: Sequence[int] | None, boxes: Sequence[str] | None) -> dict[int, list[Box]]:
    """The --slice and --box options as boxes by slice."""
    slices, boxes = slices or [], boxes or []
    if not boxes or len(slices) != len(boxes):
        raise InputError(
            f"Every --box goes with a --slice, and there is at least one; got {len(slices)} --slice and "
            f"{len(boxes)} --box; give e.g. --slice 12 --box 120,80,180,140."
        )
    prompts: dict[int, list[Box]] = {}
    for k, text in zip(slices, boxes, strict=True):
        prompts.setdefault(k, []).append(Box.parse(text))
    return prompts


def _names(models: str | None) -> list[str]:
    """The --models option as names, each once; all that can be loaded where it is not given."""
    if models is None:
        return [name for name in CATALOGUE if available(name)[0]]
    names = list(dict.fromkeys(name.strip() for name in models.split(",") if name.strip()))
    if not names:
        raise InputError(
            f"--models names at least one model; got '{models}'; choose from {', '.join(CATALOGUE)}."
        )
    return names


def _marked(volume: CTVolume, prompts: Mapping[int, Sequence[Box]]) -> Segmentation:
    """The prompts on the scan, checked before any model is loaded."""
    marked = Segmentation(volume.shape_zyx)
    for k, boxes in prompts.items():
        marked.set_slice(k, boxes, {})
    return marked


def _labels(path: Path, volume: CTVolume) -> npt.NDArray[np.uint8]:
    """A mask [z, y, x] with 1 for blood or IPH and 2 for IVH; any one other value is taken for 1."""
    labels = read_mask(path, volume)
    values = np.unique(labels[labels != 0])
    if len(values) == 1 and values[0] != measure.IVH:
        return np.not_equal(labels, 0).astype(np.uint8)
    if not set(values.tolist()) <= {measure.IPH, measure.IVH}:
        raise InputError(
            "A mask's labels are 0 and 1, or 0, 1 (intraparenchymal) and 2 (intraventricular); "
            f"{path.name} has {', '.join(map(str, values))}; relabel it."
        )
    return labels


# Work


def _predict(
    marked: Segmentation, volume: CTVolume, predictor: Predictor, second_look: bool | None
) -> None:
    """Add a model's masks for all boxes, with progress on stderr."""
    console = Console(stderr=True)
    progress = track(
        marked.marked_slices(),
        description=predictor.title,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    for k in progress:
        embedding = predictor.embed(volume.hu_zyx[k])
        found = predictor.predict(embedding, marked.boxes(k), second_look=second_look)
        marked.add_masks(k, {predictor.name: found.union})


def _score(
    mask_zyx: npt.NDArray[np.bool_],
    truth_zyx: npt.NDArray[np.bool_] | None,
    volume: CTVolume,
    slices: Sequence[int],
) -> dict[str, float | None]:
    """A mask's volume on some slices, and against the truth on the same ones where there is one."""
    on_slices = np.zeros((len(mask_zyx), 1, 1), dtype=bool)
    on_slices[slices] = True
    ml = measure.volume_ml(mask_zyx & on_slices, volume)
    if truth_zyx is None:
        return {"volume_ml": ml}
    truth_ml = measure.volume_ml(truth_zyx & on_slices, volume)
    overlap = measure.dice(mask_zyx & on_slices, truth_zyx & on_slices)
    return {
        "volume_ml": ml,
        "truth_ml": truth_ml,
        "difference_ml": ml - truth_ml,
        "dice": None if np.isnan(overlap) else overlap,
    }


def _measured(volume: CTVolume, labels: npt.NDArray[np.uint8], told_apart: bool) -> dict[str, Any]:
    """The record of one scan and its mask."""
    hu = measure.hu_statistics(labels, volume)
    iph_ml, ivh_ml = (
        measure.volume_ml(labels == label, volume) if told_apart else None
        for label in (measure.IPH, measure.IVH)
    )
    return {
        "scan": export.scan_record(volume),
        "volume_ml": measure.volume_ml(labels, volume),
        "iph_ml": iph_ml,
        "ivh_ml": ivh_ml,
        "slices": export.table_record(labels, volume),
        "hu": None if hu is None else asdict(hu),
    }


def _growth(before: Mapping[str, Any], after: Mapping[str, Any], strict: bool) -> dict[str, Any]:
    """The record of the growth between two ``_measured``."""
    told_apart = before["ivh_ml"] is not None
    of = "iph_ml" if told_apart else "volume_ml"
    ivh_ml = (before["ivh_ml"], after["ivh_ml"]) if told_apart else None
    found = measure.expansion(before[of], after[of], ivh_ml=ivh_ml, inclusive=not strict)
    return {
        "growth_ml": found.growth_ml,
        "growth_percent": found.growth_percent,
        "of": "iph" if told_apart else "all blood",
        "strict": strict,
        "definitions": {
            name: {"expansion": getattr(found, name), **asdict(definition)}
            for name, definition in measure.DEFINITIONS.items()
        },
    }


# Output


def _print_json(record: Mapping[str, Any]) -> None:
    versions = {"versions": export.versions(), "notice": export.NOTICE}
    sys.stdout.write(export.json_bytes({**record, **versions}).decode())


def _print_people(table: Table, notes: Iterable[str], last: str = export.NOTICE) -> None:
    console = Console(highlight=False)
    console.print(table)
    for note in (*notes, last):
        console.print(note, markup=False, soft_wrap=True)


def _volume_table(mask_zyx: npt.ArrayLike, volume: CTVolume, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("Slice", "from 0", "mm2", "height, mm", "mL"):
        table.add_column(heading, justify="right")
    for row in measure.slice_table(mask_zyx, volume):
        table.add_row(
            str(row.slice_index + 1),
            str(row.slice_index),
            f"{row.area_mm2:.1f}",
            f"{row.height_mm:.2f}",
            f"{row.volume_ml:.2f}",
        )
    table.add_section()
    table.add_row("Total", "", "", "", f"{measure.volume_ml(mask_zyx, volume):.2f}")
    return table


def _score_table(results: Sequence[Mapping[str, Any]]) -> Table:
    scored = "dice" in results[0]["whole_scan"]
    table = Table("Model", "Slice")
    for heading in ("mL", "truth, mL", "difference, mL", "Dice") if scored else ("mL",):
        table.add_column(heading, justify="right")
    for result in results:
        rows = [(str(row["slice"] + 1), row) for row in result["slices"]]
        rows += [("with a box", result["boxed_slices"]), ("whole scan", result["whole_scan"])]
        for number, (where, row) in enumerate(rows):
            keys = ("volume_ml", "truth_ml", "difference_ml") if scored else ("volume_ml",)
            cells = [f"{row[key]:.2f}" for key in keys]
            if scored:
                cells.append("-" if row["dice"] is None else f"{row['dice']:.3f}")
            table.add_row("" if number else result["title"], where, *cells)
        table.add_section()
    return table


def _measures_table(measured: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("", *("Baseline", "Follow-up")[: len(measured)])
    hu = [one["hu"] for one in measured]
    table.add_row("Volume, mL", *(f"{one['volume_ml']:.2f}" for one in measured))
    if measured[0]["ivh_ml"] is not None:
        table.add_row("Intraparenchymal, mL", *(f"{one['iph_ml']:.2f}" for one in measured))
        table.add_row("Intraventricular, mL", *(f"{one['ivh_ml']:.2f}" for one in measured))
    table.add_row(
        "HU, mean (sd)",
        *("-" if one is None else f"{one['mean']:.1f} ({one['sd']:.1f})" for one in hu),
    )
    return table


def _growth_table(growth: Mapping[str, Any]) -> Table:
    verdicts = {True: "yes", False: "no", None: "not told: no intraventricular label (2)"}
    table = Table("Expansion", "", "Rule", "Source")
    for name, definition in growth["definitions"].items():
        verdict = verdicts[definition["expansion"]]
        table.add_row(name, verdict, definition["rule"], definition["source"])
    return table


def _growth_notes(growth: Mapping[str, Any]) -> list[str]:
    percent = growth["growth_percent"]
    share = "the baseline is empty" if percent is None else f"{percent:+.1f} %"
    blood = "intraparenchymal blood" if growth["of"] == "iph" else "all blood"
    met = "must be exceeded" if growth["strict"] else "need only be met"
    return [
        f"Growth of {blood}: {growth['growth_ml']:+.2f} mL ({share}). Thresholds {met}.",
        f"Changes under {measure.DETECTABLE_CHANGE_ML} mL are within what two raters' manual volumes differ by "
        "(Rodriguez-Luna 2016).",
    ]


if __name__ == "__main__":
    main()
