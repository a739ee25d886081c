"""The command line: python -m ichseg info | segment | compare | measure | benchmark.

Every command takes ``--json`` and then prints one JSON object on stdout and nothing else there; progress goes
to stderr. Exit 0, or 2 with one line on stderr that says rule, value and remedy; of many scans, 1 where
some were passed over. The keys of the objects stand
in each command's help. In options and in JSON slices are numbered from 0 at the foot end; tables for people show both.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from ichseg import cohort
from ichseg.errors import InputError
from ichseg.files import evidence, export, labels
from ichseg.files.mask import read_labelled_mask
from ichseg.files.regular_grid import aslant_note, regular_grid_files
from ichseg.marks.box import Box
from ichseg.marks.document import TYPES, Segmentation
from ichseg.marks.edge import step_of
from ichseg.measures import followup, growth, spread
from ichseg.measures import scores as bedside
from ichseg.measures.spread import VolumeRange, volume_range
from ichseg.measures.volume import slice_table, volume_ml
from ichseg.methods.backends import BACKEND_VARIABLE, BACKENDS, use_backend
from ichseg.methods.catalogue import (
    CATALOGUE,
    available,
    edge_setting,
    load_predictor,
    mask_identity,
    model_error,
)
from ichseg.methods.follow import Stop, propagate_lesions
from ichseg.replace_file import check_not_an_input, check_outputs, inputs_of, write_whole
from ichseg.scan.volume import CTVolume, read_volume

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor, SliceEmbedding

app = typer.Typer(
    name="ichseg",
    help=f"Hematomas on head CT, from boxes to millilitres. {export.NOTICE}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

Scan = Annotated[
    Path,
    typer.Argument(
        metavar="SCAN", help="A head CT: NIfTI, NRRD or MHA file, DICOM folder, or zip."
    ),
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
EdgeOption = Annotated[
    bool | None,
    typer.Option(
        "--edge/--no-edge",
        help="Draw the edge at half height on what LiteMedSAM, SAM or MedSAM found, where tissue lies around the "
        "blood. On by default.",
        show_default=False,
    ),
]
Series = Annotated[
    str | None, typer.Option(help="Which DICOM series of SCAN to read, where there are several.")
]
AddOffset = Annotated[
    int, typer.Option(help="Added to SCAN's values, e.g. -1024 where the file lacks that offset.")
]
Models = Annotated[
    str | None, typer.Option(metavar="A,B,..", help="Model names. Default: all that are here.")
]
Ray = Annotated[
    bool,
    typer.Option("--ray", metavar="", help="Many scans side by side, on this machine's cores."),
]
RayAddress = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="The same on a Ray cluster, e.g. auto.")
]
Identified = Annotated[
    bool,
    typer.Option(
        "--identified",
        metavar="",
        help="A .dcm gets the patient's name and number from SCAN, so that an archive files it with them. "
        "Without it they are left empty.",
    ),
]
RegularGrid = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Also write a copy of scan and mask, resampled to a regular grid, for programs that refuse slices that "
        "are stacked aslant or unevenly, such as those built on ITK.",
    ),
]
ScanLabel = Annotated[
    str,
    typer.Option(
        metavar="TEXT",
        help="What the files call SCAN, in place of the first 8 digits of its hash. Never a patient's name.",
    ),
]
SCORES: Any = {"rich_help_panel": "For the scores: what is not given is named as missing"}
Backend = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"What computes LiteMedSAM: {', '.join(BACKENDS)} (the faster one that is here). "
        f"Default: ${BACKEND_VARIABLE}, else auto.",
    ),
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

    JSON keys: scan (sha256, shape_zyx, spacing_mm, slice_heights_mm, tilt_degrees, evenly_spaced, warnings, notes),
    hu_range, other_series (key, which --series takes, number, label, slices, derived, refusal,
    short), versions, notice.
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
        refused = f" ({other.refusal})" if other.refusal else ""
        key = other.short or (other.key if other.number is None else other.number)
        table.add_row(f"--series {key}", f"{other.label}, {other.slices} slices{refused}")
    _print_people(table, volume.remarks)


@app.command()
def segment(
    scan: Scan,
    slices: Slices = None,
    boxes: Boxes = None,
    propagate: Annotated[
        bool,
        typer.Option(
            "--propagate",
            metavar="",
            help="Go on from the boxes to the whole hematoma, slice by slice, until it ends.",
        ),
    ] = False,
    session: Annotated[
        Path | None,
        typer.Option(help="Run a saved record again, in place of --slice, --box and --model."),
    ] = None,
    edge: EdgeOption = None,
    model: Annotated[
        str | None, typer.Option(help=f"{', '.join(CATALOGUE)}, or an adapter's folder or hub id.")
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            help="Write the mask: .nii.gz on the scan's grid, or .zip with a PNG a slice; or the evidence: "
            f"{', '.join(evidence.FORMATS)}. Repeatable. For many scans: the folder of their masks and records."
        ),
    ] = None,
    regular_grid: RegularGrid = None,
    identified: Identified = False,
    scan_label: ScanLabel = "",
    series: Series = None,
    add_offset: AddOffset = 0,
    ray: Ray = False,
    ray_address: RayAddress = None,
    backend: Backend = None,
    as_json: AsJson = False,
) -> None:
    """Segment what is in the boxes, and give its volume.

    SCAN may also be many: a manifest (CSV: scan, boxes or session, and truth, out, series, add_offset), or a
    folder of scans each with its record NAME.json. What is finished in --out is not done again.

    JSON keys: schema_version, scan (as of info), lesions (id, name, type, colour, locked, visible,
    volume_ml), boxes (slice, lesion, box_xyxy), propagated (lesion, parameters, boxes), edits (slice,
    lesion, origin, runs), model, weights_sha256, second_look, edge, identity, mask_sha256, labels_sha256, slices
    (slice, area_mm2, height_mm, volume_ml), volume_ml of the blood, versions, notice; with --session
    also same_mask and session_notes. The object is itself a record for --session. For many:
    scans (a row of results.csv each), passed_over, versions, notice.
    """
    use_backend(backend)
    if cohort.is_cohort(scan):
        _refuse_for_many(
            {
                **{"--slice": slices, "--box": boxes, "--session": session},
                **{"--series": series, "--add-offset": add_offset, "--propagate": propagate},
                **{"--identified": identified, "--scan-label": scan_label},
                "--regular-grid": regular_grid,
            }
        )
        folder = _folder_for_many(out[0] if out and len(out) == 1 else None)
        jobs = [
            cohort.Segment(entry, folder, model, edge=edge is not False)
            for entry in cohort.read_manifest(scan)
        ]
        _many(jobs, scan, ray, ray_address, as_json)
        return
    saved = None
    if session is not None:
        if slices or boxes or model or propagate or edge is not None:
            raise InputError(
                "A session brings its own boxes, model and edge; got --session with --slice, --box, --model, "
                "--propagate, --edge or --no-edge; leave them out."
            )
        saved = export.load_session(session)
    prompts = saved.boxes if saved else _prompts(slices, boxes)
    volume = export.with_label(_read(scan, series, add_offset), scan_label)
    if saved:
        saved.check_scan(volume)
    inputs = _inputs(scan, session)
    _check_out(out or (), volume, inputs)
    _check_folder(regular_grid, inputs)
    marked = cohort.prompted(volume, prompts, edge is not False)
    predictor = load_predictor(saved.model if saved else model)
    embed = cache(lambda k: predictor.embed(volume.hu_zyx[k]))  # of a slice once
    stops: list[Stop] = []
    second_look: bool | None = predictor.second_look
    changed: list[str] = []
    if saved:
        changed = saved.check_model(predictor)
        second_look = saved.second_look
        with Console(stderr=True).status(predictor.title):
            marked = saved.run(predictor, volume)
    elif propagate:
        marked, stops = _propagated(prompts, volume, predictor, edge is not False, embed)
        second_look = False  # as it was done
    else:
        _predict(marked, volume, predictor, second_look)
    mask_zyx = marked.mask_zyx(predictor.name)
    identity = mask_identity(predictor, refinement=second_look, edge=marked.edge)
    record = export.segmentation_record(
        volume,
        marked,
        model=predictor.name,
        weights_sha256=predictor.weights_sha256,
        second_look=second_look,
        identity=identity,
    )
    lesions = marked.named_lesions
    notes = [*volume.remarks, *_lesion_notes(record["lesions"] if lesions else [])]
    notes += [f"Propagation {stop.sentence} (--slice {stop.slice_index})." for stop in stops]
    if own := model_error(predictor.name):
        notes.append(f"On patients that it never saw, its volumes were off by {own.figure}.")
    if edge_setting(predictor.name, marked.edge):
        notes.append(
            "Where tissue lies around the blood, its edge was moved to half height; --no-edge leaves it."
        )
    same_mask = saved.is_same(marked, predictor.name) if saved else None
    if same_mask is not None:
        record["same_mask"] = same_mask
        record["session_notes"] = changed
        notes += [export.same_mask_note(same_mask, changed), *changed]
    masks = [path for path in out or () if not _is_evidence(path)]
    for path in masks:
        export.save_marked(path, marked, predictor.name, volume, made=identity.short, inputs=inputs)
        notes.append(f"Mask written to {path}.")
        if path.suffix.lower() != ".zip" and (aslant := aslant_note(volume)):
            notes.append(aslant)
    if out and len(masks) < len(out):
        # Of a session's masks it is not known without its propagations and corrections done again.
        ranges: dict[int | None, VolumeRange] = {}
        if not saved:
            with Console(stderr=True).status("Drawing the boxes anew, for the range"):
                found_range = _range(marked, volume, predictor, prompts, propagate, embed)
            ranges = dict.fromkeys(
                (None, *(one.id for one in marked.lesions)), found_range
            )  # of one
        found = evidence.assess_marked(
            marked,
            volume,
            model=predictor.name,
            model_title=predictor.title,
            weights_sha256=predictor.weights_sha256,
            second_look=second_look,
            identity=identity,
            ranges=ranges,
        )
        if given := found.ranges.get(None):
            notes.append(f"{given.low_ml:.1f} to {given.high_ml:.1f} mL {given.covers}.")
        notes += _write_evidence(out, found, scan if identified else None, inputs)
    if regular_grid:
        files, note = regular_grid_files(
            volume,
            marked.labels_zyx(predictor.name),
            lesions,
            method=predictor.name,
            made=identity.short,
        )
        notes += _write_copies(regular_grid, files, note, inputs)
    if as_json:
        _print_json(record)
        return
    _print_people(_volume_table(mask_zyx, volume, predictor.title), notes)


@app.command()
def compare(
    scan: Scan,
    slices: Slices = None,
    boxes: Boxes = None,
    models: Models = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="A reference mask on the scan's grid, of any format as for measure; not 0 is blood."
        ),
    ] = None,
    edge: EdgeOption = None,
    series: Series = None,
    add_offset: AddOffset = 0,
    backend: Backend = None,
    as_json: AsJson = False,
) -> None:
    """Run several models on the same boxes, and score them where the truth is given.

    JSON keys: scan (as of info), boxes (slice, box_xyxy), models, caveat, versions, notice. Each of
    models has model, title, weights_sha256, identity, slices, boxed_slices and whole_scan; slices is a list
    with the slice's index. These three hold volume_ml, and with --truth truth_ml, difference_ml
    (model less truth) and dice (null where both are empty).
    """
    use_backend(backend)
    prompts = _prompts(slices, boxes)
    names = _names(models)
    volume = _read(scan, series, add_offset)
    reference = None if truth is None else read_labelled_mask(truth, volume)
    truth_zyx = None if reference is None else reference.blood_zyx
    with_edge = edge is not False
    marked = cohort.prompted(volume, prompts, with_edge)
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
                "identity": mask_identity(predictor, edge=with_edge).record(),
                "slices": [
                    {"slice": k, **cohort.score_slices(mask_zyx, truth_zyx, volume, [k])}
                    for k in boxed
                ],
                "boxed_slices": cohort.score_slices(mask_zyx, truth_zyx, volume, boxed),
                "whole_scan": cohort.score_slices(
                    mask_zyx, truth_zyx, volume, range(len(mask_zyx))
                ),
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
    of_reference = () if reference is None else reference.notes
    notes = [*volume.remarks, *of_reference, *([caveat] if caveat else [])]
    _print_people(_score_table(results), notes)


_CAVEAT = (
    "Scored on slices where a person saw blood and drew a box: an optimistic setting, "
    "not what a model finds by itself. The whole scan's truth includes slices without a box."
)


@app.command()
def benchmark(
    scans: Annotated[
        Path, typer.Argument(metavar="SCANS", help="A manifest or a folder, as for segment.")
    ],
    out: Annotated[Path, typer.Option(help="The folder of the scores.")],
    models: Models = None,
    edge: EdgeOption = None,
    ray: Ray = False,
    ray_address: RayAddress = None,
    backend: Backend = None,
    as_json: AsJson = False,
) -> None:
    """Compare models over many scans: the boxes of each, against its truth where it has one.

    JSON keys: scans (a row of results.csv for each scan and model), models (model, scans, mean and sd of dice, of
    boxed_dice and of the absolute difference_ml, seconds_a_slice), caveat, passed_over, versions, notice.
    """
    use_backend(backend)
    names = tuple(_names(models))
    entries = cohort.read_manifest(scans)
    jobs = [
        cohort.Compare(entry, _folder_for_many(out), names, edge=edge is not False)
        for entry in entries
    ]
    _many(jobs, scans, ray, ray_address, as_json)


@app.command("measure")
def measure_command(
    scan: Scan,
    mask: Annotated[
        Path,
        typer.Argument(
            metavar="MASK",
            help="Its mask on the same grid: NIfTI, .seg.nrrd, NRRD, MHA, DICOM-SEG, or archive of slices.",
        ),
    ],
    later: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--followup", metavar="SCAN2 MASK2", help="A later scan and its mask: gives the growth."
        ),
    ] = None,
    hours: Annotated[
        float | None, typer.Option(help="From SCAN to SCAN2: gives the growth in mL/h.")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            metavar="",
            help="Expansion is growth of more than a threshold, not of at least it.",
        ),
    ] = False,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="K=TYPE",
            help=f"What label K of the masks is: {', '.join(TYPES)}. Repeatable. It completes what a mask says of its "
            "own labels. Where nobody says anything, 1 and 2 together are IPH and IVH.",
        ),
    ] = None,
    followup_label: Annotated[
        list[str] | None,
        typer.Option(metavar="K=TYPE", help="The same, of MASK2, where its labels are others."),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            help=f"Write the evidence of SCAN: {', '.join(evidence.FORMATS)}. Repeatable."
        ),
    ] = None,
    regular_grid: RegularGrid = None,
    identified: Identified = False,
    scan_label: ScanLabel = "",
    series: Series = None,
    add_offset: AddOffset = 0,
    followup_series: Annotated[
        str | None, typer.Option(help="As --series, of SCAN2.", metavar="TEXT")
    ] = None,
    followup_add_offset: Annotated[
        int, typer.Option(help="As --add-offset, of SCAN2.", metavar="INTEGER")
    ] = 0,
    onset_hours: Annotated[
        float | None, typer.Option(help="From the onset of symptoms to SCAN.", **SCORES)
    ] = None,
    gcs: Annotated[int | None, typer.Option(help="Glasgow Coma Scale, 3 to 15.", **SCORES)] = None,
    nihss: Annotated[int | None, typer.Option(help="NIHSS, 0 to 42.", **SCORES)] = None,
    glucose: Annotated[float | None, typer.Option(help="Glucose in mg/dL.", **SCORES)] = None,
    age: Annotated[float | None, typer.Option(help="Age in years.", **SCORES)] = None,
    warfarin: Annotated[
        bool | None, typer.Option("--warfarin/--no-warfarin", help="At onset.", **SCORES)
    ] = None,
    anticoagulant: Annotated[
        bool | None,
        typer.Option("--anticoagulant/--no-anticoagulant", help="Any, at onset.", **SCORES),
    ] = None,
    recurrent: Annotated[
        bool | None,
        typer.Option("--recurrent/--first", help="Hemorrhages before, or none.", **SCORES),
    ] = None,
    infratentorial: Annotated[
        bool | None,
        typer.Option("--infratentorial/--supratentorial", help="Where it comes from.", **SCORES),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a mask, lesion by lesion; its growth to a follow-up scan; and the scores whose inputs are known.

    JSON keys: baseline, followup and growth (both null without --followup), scores, versions, notice. A scan's: scan
    (as of info), volume_ml, iph_ml (null, unknown, where no blood is of type IPH or some of unspecified type), ivh_ml
    (null where no mask has blood of type IVH), slices (slice, area_mm2, height_mm, volume_ml), hu (null for an empty
    mask), total and lesions (label, name, type, voxels, volume_ml, pieces, largest_piece_ml, slices, longest_in_plane,
    longest_in_3d, abc2, surface_area_mm2, hu, histogram, side, inner_table), notes; oedema counts for no total. growth:
    growth_ml, growth_percent, growth_ml_per_hour, ivh_growth_ml, of (iph, not ivh or all blood) and counted (the same
    in words), strict, within_measurement_error (of reading_error), model_error, error_sentence, notes, thresholds,
    definitions (classic, absolute, revised: expansion, null where it cannot be told, rule, because, source). scores:
    name, items (finding, name, value, points, most, rule), total (null where a finding is missing), least, most,
    missing, meaning, source.
    """
    findings = bedside.Findings(
        hours_from_onset=onset_hours,
        recurrent=recurrent,
        warfarin=warfarin,
        anticoagulant=anticoagulant,
        nihss=nihss,
        glucose_mg_dl=glucose,
        gcs=gcs,
        infratentorial=infratentorial,
        age_years=age,
    )
    types = labels.types_of_labels(label or ())
    volumes = [export.with_label(_read(scan, series, add_offset), scan_label)]
    inputs = [*_inputs(scan, *(later or ())), *_mask_inputs(mask, *(later or ())[1:])]
    for path in out or ():
        evidence.check_path(path, volumes[0], inputs)
    check_outputs([one for path in out or () for one in evidence.outputs(path)], inputs)
    _check_folder(regular_grid, inputs)
    masks = [read_labelled_mask(mask, volumes[0])]
    said = [types]
    if later is not None:
        volumes.append(_read(later[0], followup_series, followup_add_offset))
        masks.append(read_labelled_mask(later[1], volumes[1]))
        said.append(labels.types_of_labels(followup_label) if followup_label else types)
    typed = labels.with_types(masks, said)
    with Console(stderr=True).status("Measuring"):
        found = [
            evidence.read_from_file(
                evidence.assess(
                    one.labels_zyx,
                    volume,
                    one.lesions,
                    # Not what was noted when the file was read: that names the file.
                    notes=one.notes[len(given.notes) :],
                ),
                given.method,
            )
            for one, given, volume in zip(typed, masks, volumes, strict=True)
        ]
    bloods = [one.blood for one in found]
    between = None
    if later is not None:
        between = followup.between(
            *bloods,
            hours=hours,
            thresholds=growth.Thresholds(inclusive=not strict),
            methods=(masks[0].method, masks[1].method),
        )
    findings = followup.findings(findings, *bloods)
    scores = bedside.scores(findings)
    notes: list[str] = []
    if out:
        told = replace(
            found[0],
            growth=between,
            role=None if between is None else "baseline",
            scores=scores,
            other=None if between is None else evidence.OtherScan.of(found[1]),
        )
        notes = _write_evidence(out, told, scan if identified else None, inputs)
    if regular_grid:
        first = masks[0]
        files, note = regular_grid_files(
            volumes[0], first.labels_zyx, first.lesions, method=first.method
        )
        notes += _write_copies(regular_grid, files, note, inputs)
    has_ivh = any(blood.has_ivh for blood in bloods)
    measured = [
        _measured(one, given.notes, has_ivh) for one, given in zip(found, typed, strict=True)
    ]
    if as_json:
        _print_json(
            {
                "baseline": measured[0],
                "followup": measured[1] if later is not None else None,
                "growth": None if between is None else _growth_record(between, strict),
                "scores": [asdict(score) for score in scores],
            }
        )
        return
    for title, whole, one in zip(("Baseline", "Follow-up"), found, measured, strict=False):
        volume = whole.volume
        table = _volume_table(whole.blood_zyx, volume, f"{title}: {volume.name}")
        _print_people(table, [*volume.remarks, *one["notes"]], "")
        _print_people(_measures_table(one), _measures_notes(one), "")
    if between is not None:
        _print_people(_growth_table(between), _growth_notes(between), "")
    _print_people(_scores_table(scores), notes)


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


# Work


def _propagated(
    prompts: Mapping[int, Sequence[Box]],
    volume: CTVolume,
    predictor: Predictor,
    edge: bool,
    embed: Callable[[int], SliceEmbedding],
) -> tuple[Segmentation, list[Stop]]:
    """The whole hematoma from its prompts, with progress on stderr, and why it ended."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(predictor.title, total=1.0)
        done = propagate_lesions(
            predictor,
            volume,
            {1: prompts},
            embed=embed,
            progress=lambda share: progress.update(task, completed=share),
        )
    marked = done.segmentation(predictor.name, edge_step=step_of(volume), edge=edge)
    return marked, done.stops


def _range(
    marked: Segmentation,
    volume: CTVolume,
    predictor: Predictor,
    prompts: Mapping[int, Sequence[Box]],
    propagated: bool,
    embed: Callable[[int], SliceEmbedding],
) -> VolumeRange:
    """The volume from boxes, and of a propagation from slices, that other hands might have chosen."""
    mask_zyx = marked.mask_zyx(predictor.name)
    if propagated:
        return spread.propagated_range(predictor, volume, mask_zyx, prompts, embed=embed)
    found = volume_range(predictor, volume, prompts, embedding=embed)
    # The draws are the model's instant answers, before a refinement and before the edge.
    later = predictor.second_look or edge_setting(predictor.name, marked.edge)
    return found.carried_to(volume_ml(mask_zyx, volume)) if later else found


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


def _measured(
    found: evidence.Assessment, notes: Iterable[str], ivh_told_apart: bool
) -> dict[str, Any]:
    """The record of one scan and its mask."""
    blood, hu = found.blood, found.total.hu
    return {
        "scan": export.scan_record(found.volume),
        "volume_ml": found.total.volume_ml,
        "iph_ml": blood.parenchymal_ml,
        "ivh_ml": blood.ivh_ml if ivh_told_apart else None,
        "slices": export.table_record(found.blood_zyx, found.volume),
        "hu": None if hu is None else asdict(hu),
        "total": asdict(found.total),
        "lesions": [
            {**asdict(one), "name": lesion.name, "type": lesion.type}
            for lesion, one in zip(found.lesions, found.measures, strict=True)
        ],
        "notes": list(notes),
    }


def _growth_record(found: growth.Growth, strict: bool) -> dict[str, Any]:
    record = growth.growth_record(found)
    record["definitions"] = {one.pop("name"): one for one in record.pop("verdicts")}
    return {"strict": strict, **record}


# Files


def _is_evidence(path: Path) -> bool:
    return bool(evidence.ending(path))


def _inputs(*paths: Path | None) -> list[Path]:
    """All that is read where these are given: ``inputs_of`` each, whatever it is."""
    return [one for path in paths if path is not None for one in inputs_of(path)]


def _mask_inputs(*masks: Path) -> list[Path]:
    """Masks, and the files beside them that say what their labels are."""
    return [one for mask in masks for one in (*inputs_of(mask), export.lesions_path(mask))]


def _check_out(paths: Sequence[Path], volume: CTVolume, inputs: Sequence[Path]) -> None:
    """Refuse a place for a mask or for evidence before any work is done."""
    outputs = list[Path]()
    for path in paths:
        if _is_evidence(path):
            evidence.check_path(path, volume, inputs)
            outputs += evidence.outputs(path)
        else:
            export.check_mask_path(path, volume, inputs)
            outputs += export.mask_outputs(path)
    check_outputs(outputs, inputs)


def _write_evidence(
    paths: Iterable[Path],
    found: evidence.Assessment,
    identity_from: Path | None,
    inputs: Sequence[Path],
) -> list[str]:
    """Write what is evidence among the files, and say so; a DICOM-SEG's identity comes from where it is told."""
    notes = []
    for path in filter(_is_evidence, paths):
        written = evidence.save(path, found, identity_from=identity_from, inputs=inputs)
        notes.append(f"Written: {', '.join(map(str, written))}.")
        if evidence.ending(path) == ".dcm":
            notes.append(evidence.IDENTIFIED if identity_from else evidence.DICOM_PRIVACY)
    return notes


def _check_folder(folder: Path | None, inputs: Sequence[Path]) -> None:
    """Refuse a place for the copies on a regular grid before any work is done."""
    if folder is not None:
        check_not_an_input(folder / "copies", inputs)
    if folder is not None and not folder.is_dir():
        raise InputError(
            f"The copies on a regular grid go into a folder that is there; got {folder.name}; make it first."
        )


def _write_copies(
    folder: Path, files: Mapping[str, bytes], note: str, inputs: Iterable[Path]
) -> list[str]:
    """Write the copies on a regular grid, and say so."""
    for name, content in files.items():
        write_whole(folder / name, content, inputs=inputs)
    return [note]


# Many scans


def _refuse_for_many(options: Mapping[str, object]) -> None:
    """Refuse what belongs to one scan."""
    if given := [name for name, value in options.items() if value]:
        raise InputError(
            "Of many scans each brings its own boxes, record, series and offset; got "
            f"{', '.join(given)}; move it into the manifest's columns."
        )


def _folder_for_many(out: Path | None) -> Path:
    if out is None or out.is_file():
        raise InputError(
            "The results of many scans go into a folder; got "
            f"{'no --out' if out is None else f'the file {out.name}'}; give --out FOLDER."
        )
    return out


def _many(
    jobs: Sequence[cohort.Segment | cohort.Compare],
    scans: Path,
    ray: bool,
    ray_address: str | None,
    as_json: bool,
) -> None:
    """Run jobs with a bar on stderr, write results.csv, print what came of them; exit 1 where one was passed over."""
    folder, inputs = jobs[0].folder, cohort.inputs_of_many(scans, [job.entry for job in jobs])
    check_not_an_input(folder / cohort.RESULTS_NAME, inputs)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Scans", total=len(jobs))
        outcomes = cohort.run(
            jobs,
            inputs=inputs,
            ray=ray_address or (cohort.LOCAL if ray else None),
            on_done=lambda _: progress.advance(task),
        )
    write_whole(folder / cohort.RESULTS_NAME, cohort.results_csv(outcomes), inputs=inputs)
    passed_over = [one.entry.number for one in outcomes if one.record is None]
    averages = cohort.averages(outcomes) if isinstance(jobs[0], cohort.Compare) else None
    caveat = _CAVEAT if any(one.entry.truth for one in outcomes) else None
    if as_json:
        rows = [row for one in outcomes for row in cohort.result_rows(one)]
        record: dict[str, Any] = {"scans": rows, "passed_over": len(passed_over)}
        if averages is not None:
            record |= {"models": averages, "caveat": caveat}
        _print_json(record)
    else:
        notes = [
            f"Scan {one.entry.number}: Warning: {warning}"
            for one in outcomes
            for warning in (one.record or {}).get("scan", {}).get("warnings", ())
        ]
        notes += [f"Scan {one.entry.number}: {one.error}" for one in outcomes if one.error]
        notes += [f"Tables and files are in {folder}.", *([caveat] if caveat else [])]
        _print_people(_many_table(outcomes, averages), notes)
    if passed_over:
        # Numbers alone: what goes to a log names no file. The reasons stand in the results.
        numbers = ", ".join(map(str, passed_over))
        print(f"Passed over {len(passed_over)} of {len(jobs)} scans: {numbers}", file=sys.stderr)
        raise typer.Exit(1)


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
    for row in slice_table(mask_zyx, volume):
        table.add_row(
            str(row.slice_index + 1),
            str(row.slice_index),
            f"{row.area_mm2:.1f}",
            f"{row.height_mm:.2f}",
            f"{row.volume_ml:.2f}",
        )
    table.add_section()
    table.add_row("Total", "", "", "", f"{volume_ml(mask_zyx, volume):.2f}")
    return table


def _many_table(
    outcomes: Sequence[cohort.Outcome], averages: Sequence[Mapping[str, Any]] | None
) -> Table:
    """Each scan's row, or each model's where several were compared."""
    if averages is None:
        table = Table("Scan", "", "mL", "truth, mL", "Dice")
        rows = [row for one in outcomes if one.record for row in cohort.result_rows(one)]
        for row in rows:
            cells = (_two(row.get(key)) for key in ("volume_ml", "truth_ml"))
            table.add_row(str(row["number"]), row["state"], *cells, _two(row.get("dice"), 3))
    else:
        table = Table(
            "Model", "scans", "Dice, boxed slices", "Dice, whole scan", "|difference|, mL"
        )
        for one in averages:
            pairs = [
                f"{_two(one[f'{key}_mean'], digits)} ± {_two(one[f'{key}_sd'], digits)}"
                for key, digits in (("boxed_dice", 3), ("dice", 3), ("difference_ml", 2))
            ]
            table.add_row(one["model"], str(one["scans"]), *pairs)
    return table


def _two(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _lesion_notes(lesions: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each lesion of a record, where there is more to say than the total."""
    return [
        f"{lesion['id']}. {lesion['name']} ({TYPES[lesion['type']]}): {lesion['volume_ml']:.2f} mL"
        for lesion in lesions
    ]


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


def _measures_table(measured: Mapping[str, Any]) -> Table:
    """All measures of one scan, a column for the whole and each lesion."""
    lesions = measured["lesions"]
    named = [
        f"{one['label']}. {one['name']}"
        + ("" if one["type"] == "unspecified" else f" ({one['type']})")
        for one in lesions
    ]
    columns = [measured["total"], *lesions] if len(lesions) > 1 else [measured["total"]]
    table = Table("", *("All blood", *named)[: len(columns)])

    def row(name: str, cell: Callable[[Mapping[str, Any]], str]) -> None:
        cells = [cell(one) if one["voxels"] else "-" for one in columns]
        if any(text != "-" for text in cells):
            table.add_row(name, *cells)

    row("Volume, mL", lambda one: f"{one['volume_ml']:.2f}")
    for name, ml in (
        ("Intraparenchymal, mL", measured["iph_ml"]),
        ("Intraventricular, mL", measured["ivh_ml"]),
    ):
        if ml is not None:
            table.add_row(name, f"{ml:.2f}")
    row("Pieces (largest, mL)", lambda one: f"{one['pieces']} ({one['largest_piece_ml']:.2f})")
    row("Longest in a slice, mm", lambda one: _on_slice(one["longest_in_plane"]))
    row("Longest in 3D, mm", lambda one: f"{one['longest_in_3d']['length_mm']:.1f}")
    row("ABC/2, mL", lambda one: "-" if one["abc2"] is None else f"{one['abc2']['volume_ml']:.2f}")
    row("A x B x C, mm", lambda one: "-" if one["abc2"] is None else _abc(one["abc2"]))
    row("Weights in C, by slice", lambda one: "-" if one["abc2"] is None else _weights(one["abc2"]))
    row("Surface, cm2", lambda one: f"{one['surface_area_mm2'] / 100:.1f}")
    row("HU, mean (sd)", lambda one: f"{one['hu']['mean']:.1f} ({one['hu']['sd']:.1f})")
    row(
        "HU, quartiles",
        lambda one: " / ".join(
            f"{one['hu'][key]:.0f}" for key in ("lower_quartile", "median", "upper_quartile")
        ),
    )
    row("HU, 0 to 120 by 5", lambda one: _bars(one["histogram"]["voxels"]))
    row("Side (share on the left)", lambda one: _side(one["side"]))
    row("To the inner table, mm", lambda one: _number(one["inner_table"]["distance_mm"]))
    return table


def _on_slice(line: Mapping[str, Any]) -> str:
    return f"{line['length_mm']:.1f} ({_slice(line['slice_index'])})"


def _slice(k: int) -> str:
    """A slice as people count it, and as --slice takes it."""
    return f"slice {k + 1}, --slice {k}"


def _abc(found: Mapping[str, Any]) -> str:
    a, b = (found[name]["length_mm"] for name in "ab")
    return f"{a:.1f} x {b:.1f} x {found['c_mm']:.1f} ({_slice(found['a']['slice_index'])})"


def _weights(found: Mapping[str, Any]) -> str:
    """The slices of each weight, from 1: "1: 12-15; 0.5: 10, 11; 0: 9"."""
    by_weight: dict[float, list[int]] = {}
    for one in found["slices"]:
        by_weight.setdefault(one["weight"], []).append(one["slice_index"] + 1)
    return "; ".join(
        f"{weight:g}: {', '.join(map(str, by_weight[weight]))}"
        for weight in sorted(by_weight, reverse=True)
    )


def _bars(counts: Sequence[int]) -> str:
    """A histogram in one line of text."""
    most = max(counts) or 1
    return "".join(" ▁▂▃▄▅▆▇█"[math.ceil(8 * count / most)] for count in counts)


def _side(side: Mapping[str, Any]) -> str:
    if side["left_share"] is None:
        return "-"
    name = {"both": "crosses the midline", None: "not certain"}.get(side["side"], side["side"])
    return f"{name} ({100 * side['left_share']:.0f} %)"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _measures_notes(measured: Mapping[str, Any]) -> list[str]:
    """Why a side or a distance is not given, each reason once."""
    reasons = [
        one[key]["reason"]
        for one in (measured["total"], *measured["lesions"])
        for key in ("side", "inner_table")
        if one["voxels"] and one[key]["reason"]
    ]
    return list(dict.fromkeys(reasons))


def _growth_table(found: growth.Growth) -> Table:
    verdicts = {True: "yes", False: "no", None: "not told"}
    table = Table("Expansion", "", "Rule", "Found", "Source")
    for one in found.verdicts:
        table.add_row(one.name, verdicts[one.expansion], one.rule, one.because, one.source)
    return table


def _growth_notes(found: growth.Growth) -> list[str]:
    percent, rate = found.growth_percent, found.growth_ml_per_hour
    share = "the baseline is empty" if percent is None else f"{percent:+.1f} %"
    pace = "" if rate is None else f", {rate:+.2f} mL/h over {found.hours:g} h"
    return [
        f"Growth of {found.counted}: {found.growth_ml:+.2f} mL ({share}){pace}.",
        found.error_sentence,
        *found.notes,
    ]


def _scores_table(scores: Sequence[bedside.Score]) -> Table:
    table = Table("Score", "Total", "Points", "Missing", "Source")
    for one in scores:
        total = f"{one.least} to {one.most}" if one.total is None else str(one.total)
        known = [f"{item.name} {item.points}" for item in one.items if item.points is not None]
        meaning = "" if one.meaning is None else f" ({one.meaning})"
        table.add_row(
            one.name, total + meaning, "; ".join(known), "; ".join(one.missing), one.source
        )
    return table


if __name__ == "__main__":
    main()
