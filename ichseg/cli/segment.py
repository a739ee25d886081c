"""``ichseg segment``: from boxes to masks and millilitres."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ichseg import cohort
from ichseg.cli.archive import place_of, send_back
from ichseg.cli.inputs import input_files, prompts_of, read_scan
from ichseg.cli.many import Where, folder_for_many, hours_for_many, refuse_for_many, run_many
from ichseg.cli.options import (
    AddOffset,
    AsJson,
    Auto,
    Backend,
    Boxes,
    EdgeOption,
    Identified,
    Lesions,
    Parallel,
    Processes,
    RayAddress,
    RegularGrid,
    Scan,
    ScanLabel,
    Send,
    Series,
    Slices,
    WithRange,
)
from ichseg.cli.outputs import check_folder, check_out, is_evidence, write_copies, write_evidence
from ichseg.cli.show import print_json, print_people, progress_bar, volume_table
from ichseg.errors import InputError
from ichseg.files import write
from ichseg.files.labels import types_of_labels
from ichseg.files.names import with_label
from ichseg.files.regular_grid import aslant_note, regular_grid_files
from ichseg.files.session import load_session
from ichseg.marks.lesion import TYPES
from ichseg.measures.suggest import NOTHING_FOUND
from ichseg.methods.backends import use_backend
from ichseg.methods.catalogue import CATALOGUE, edge_setting, load_predictor
from ichseg.methods.detection import load_proposals
from ichseg.methods.model_error import model_error

if TYPE_CHECKING:
    pass


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
    lesions: Lesions = None,
    auto: Auto = False,
    with_range: WithRange = True,
    edge: EdgeOption = None,
    model: Annotated[
        str | None, typer.Option(help=f"{', '.join(CATALOGUE)}, or an adapter's folder or hub id.")
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            help="Write the mask: .nii.gz on the scan's grid, or .zip with a PNG for each slice; or the evidence: "
            f"{', '.join(write.endings('measures'))}. Repeatable. For many scans: the folder of their masks and "
            "records."
        ),
    ] = None,
    regular_grid: RegularGrid = None,
    identified: Identified = False,
    send: Send = False,
    scan_label: ScanLabel = "",
    series: Series = None,
    add_offset: AddOffset = 0,
    hours: Annotated[
        float | None,
        typer.Option(help="Of many scans: from each baseline to its follow-up."),
    ] = None,
    parallel: Parallel = False,
    processes: Processes = None,
    ray_address: RayAddress = None,
    backend: Backend = None,
    as_json: AsJson = False,
) -> None:
    """Segment what is in the boxes, and give its volume.

    SCAN may also be many: a manifest (CSV: scan, boxes or session, and what else a scan needs), a folder of scans each
    with its record NAME.ichseg.json, a BIDS tree, or a folder of DICOM studies. An option then holds for each scan
    whose row says nothing else. What is finished in --out is not done again.

    JSON keys: schema_version, scan (as of info), lesions (id, name, type, colour, locked, visible,
    volume_ml), boxes (slice, lesion, box_xyxy), propagated (lesion, parameters, boxes), edits (slice,
    lesion, origin, runs), model, weights_sha256, second_look, edge, identity, mask_sha256, labels_sha256, slices
    (slice, area_mm2, height_mm, volume_ml), volume_ml of the blood, versions, notice; with --session
    also same_mask and session_notes; looks (slice, lesion, mean_hu, around_hu, probability, sentence) where masks
    of boxes look like something else than blood; with --auto also automatic (finder, weights_sha256, lesions with
    their score, notes with the cross-validated error). The object is itself a record for --session. For many:
    scans (a row of results.csv each), growth (a row of growth.csv each), passed_over, failures (the numbers of those
    scans by kind), versions, notice.
    """
    use_backend(backend)
    place = place_of(scan, series)
    place.check_send(send)
    scan = place.path
    alone = bool(slices or boxes or session)
    if cohort.is_cohort(scan) or (not alone and cohort.has_studies(scan)):
        refuse_for_many(
            {
                **{"--slice": slices, "--box": boxes, "--session": session},
                **{"--identified": identified, "--scan-label": scan_label},
                "--regular-grid": regular_grid,
            }
        )
        hours_for_many(None if hours is None else [hours])
        types_of_labels(lesions or (), "--lesion")  # one that is none is refused before any scan
        entries = [
            entry.with_defaults(
                propagate=propagate,
                auto=auto,
                model=model,
                edge=edge,
                series=series,
                add_offset=add_offset or None,
                lesions=" ".join(lesions or ()),
                hours=hours,
            )
            for entry in cohort.read_manifest(scan)
        ]
        folder = folder_for_many(out[0] if out and len(out) == 1 else None)
        jobs = [cohort.Segment(entry, folder, with_range=with_range) for entry in entries]
        run_many(jobs, scan, Where(parallel, processes, ray_address), as_json)
        return
    if hours is not None:
        raise InputError(
            "Hours are between two scans of a manifest; got --hours with one scan; leave it out, or measure growth "
            "with ichseg measure --followup."
        )
    if auto and (alone or lesions):
        raise InputError(
            "With --auto the program itself says where the blood is; got --auto with --slice, --box, --lesion or "
            "--session; leave them out, or --auto."
        )
    saved = None
    if session is not None:
        if slices or boxes or model or propagate or lesions or edge is not None:
            raise InputError(
                "A session brings its own boxes, model and edge; got --session with --slice, --box, --model, "
                "--lesion, --propagate, --edge or --no-edge; leave them out."
            )
        saved = load_session(session)
    types = types_of_labels(lesions or (), "--lesion")
    prompts = {} if saved or auto else prompts_of(slices, boxes)
    finder = load_proposals() if auto else None
    volume = with_label(read_scan(scan, series, add_offset), scan_label)
    if saved:
        saved.check_scan(volume)
        prompts = {where: list(drawn) for where, drawn in saved.prompts.items()}
    inputs = input_files(scan, session)
    check_out(out or (), volume, inputs)
    check_folder(regular_grid, inputs)
    predictor = load_predictor(saved.model if saved else model)
    on = edge is not False
    if finder is None:
        marked = cohort.prompted_document(volume, prompts, types, on)
        case = cohort.Case(volume, marked, predictor, propagate, saved.automatic if saved else None)
    else:
        with progress_bar(finder.title) as tell:
            case = cohort.automatic_case(
                volume, predictor, on, propagate=propagate, finder=finder, progress=tell
            )
    with progress_bar(predictor.title) as tell:
        done = case.run_again(saved, tell) if saved else case.segmented(tell)
    record = done.record()
    notes = _notes(done, record)
    for path in out or ():
        if not is_evidence(path):
            notes += _save_mask(path, done, inputs)
    evidence = [path for path in out or () if is_evidence(path)]
    if evidence or send:
        with progress_bar("Measuring, and drawing the boxes anew, for the range") as tell:
            found = done.assessment(with_range, tell)
        if given := found.ranges.get(None):
            notes.append(f"{given.low_ml:.1f} to {given.high_ml:.1f} mL {given.covers}.")
        notes += write_evidence(evidence, found, scan if identified else None, inputs)
        if send:
            notes += send_back(place, found)
    if regular_grid:
        files, note = regular_grid_files(
            volume,
            done.marked.labels_zyx(predictor.name),
            done.marked.named_lesions,
            method=predictor.name,
            made=done.identity.short,
        )
        notes += write_copies(regular_grid, files, note, inputs)
    if as_json:
        print_json(record)
        return
    mask_zyx = done.marked.mask_zyx(predictor.name)
    print_people(volume_table(mask_zyx, volume, predictor.title), notes)


def _notes(done: cohort.Segmented, record: Mapping[str, Any]) -> list[str]:
    """What people are told beside the volume."""
    name = done.case.predictor.name
    notes = list(done.case.volume.remarks)
    if done.marked.named_lesions:
        notes += _lesion_notes(record["lesions"])
    notes += done.notes
    if done.case.automatic is not None and not done.marked.prompts():
        notes.append(NOTHING_FOUND)
    if done.case.automatic is None and (own := model_error(name)):
        notes.append(f"On patients that it never saw, its volumes were off by {own.figure}.")
    if edge_setting(name, done.marked.edge):
        notes.append(
            "Where tissue lies around the blood, its edge was moved to half height; --no-edge leaves it."
        )
    return notes


def _save_mask(path: Path, done: cohort.Segmented, inputs: Sequence[Path]) -> list[str]:
    """Write the mask, and say so."""
    case = done.case
    write.save_marked(
        path, done.marked, case.predictor.name, case.volume, made=done.identity.short, inputs=inputs
    )
    notes = [f"Mask written to {path}."]
    if path.suffix.lower() != ".zip" and (aslant := aslant_note(case.volume)):
        notes.append(aslant)
    return notes


def _lesion_notes(lesions: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each lesion of a record, where there is more to say than the total."""
    return [
        f"{lesion['id']}. {lesion['name']} ({TYPES[lesion['type']].title}): {lesion['volume_ml']:.2f} mL"
        for lesion in lesions
    ]
