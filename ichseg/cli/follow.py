"""``ichseg follow``: from a marked baseline and its follow-up to the growth, with no box on the follow-up."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ichseg import NOTICE
from ichseg.cli.archive import place_of, send_back
from ichseg.cli.inputs import input_files, mask_files, read_scan
from ichseg.cli.options import (
    AddOffset,
    AsJson,
    Backend,
    EdgeOption,
    Identified,
    ScanLabel,
    Send,
    Series,
)
from ichseg.cli.outputs import check_out, is_evidence, write_evidence
from ichseg.cli.show import print_growth, print_json, print_people, progress_bar, volume_table
from ichseg.errors import UnsureError
from ichseg.files import labels, write
from ichseg.files.mask import LabelledMask, read_labelled_mask
from ichseg.files.measured import assess_read, measure_record
from ichseg.files.names import with_label
from ichseg.files.session import load_session, segmentation_record
from ichseg.marks.lesion import TYPES
from ichseg.measures.carried import follow_up, registration_record
from ichseg.measures.growth import Thresholds
from ichseg.methods.backends import use_backend
from ichseg.methods.catalogue import CATALOGUE, load_predictor
from ichseg.scan.volume import CTVolume


def follow(
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="The baseline: any head CT.")],
    marks: Annotated[
        Path,
        typer.Argument(
            metavar="MARKS",
            help="What is marked on it: a mask on its grid, or the record (.json) of segment or of the page.",
        ),
    ],
    later: Annotated[Path, typer.Argument(metavar="SCAN2", help="The follow-up: any head CT.")],
    model: Annotated[
        str | None,
        typer.Option(
            help=f"What looks at the follow-up: {', '.join(CATALOGUE)}, or an adapter's folder or hub id. Default: "
            "what made the marks, if they say so."
        ),
    ] = None,
    edge: EdgeOption = None,
    hours: Annotated[
        float | None,
        typer.Option(
            help="From SCAN to SCAN2: gives the growth in mL/h. Default: by the times in their DICOM headers."
        ),
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
            help=f"What label K of the mask is: {', '.join(TYPES)}. Repeatable.",
        ),
    ] = None,
    with_range: Annotated[
        bool,
        typer.Option(
            "--range",
            metavar="",
            help="Also how much the growth depends on boxes and registration.",
        ),
    ] = False,
    unsure: Annotated[
        bool,
        typer.Option(
            "--unsure", metavar="", help="Go on where the registration is unsure, and say so."
        ),
    ] = False,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            help="Write the follow-up's mask (.nii.gz, .zip ..) or the evidence with the growth: "
            f"{', '.join(write.endings('measures'))}. Repeatable."
        ),
    ] = None,
    identified: Identified = False,
    send: Send = False,
    scan_label: ScanLabel = "",
    series: Series = None,
    add_offset: AddOffset = 0,
    followup_series: Annotated[
        str | None, typer.Option(help="As --series, of SCAN2.", metavar="TEXT")
    ] = None,
    followup_add_offset: Annotated[
        int, typer.Option(help="As --add-offset, of SCAN2.", metavar="INTEGER")
    ] = 0,
    backend: Backend = None,
    as_json: AsJson = False,
) -> None:
    """Mark a follow-up by its baseline, and tell the growth.

    The two scans are registered by the skull. Boxes are drawn on the follow-up where the baseline's lesions are, and
    MODEL goes on from there; each lesion keeps its name and type. Volumes are measured on each scan's own grid.

    JSON keys: those of measure (baseline, followup, growth, scores), and: registration (matrix, 4 x 4, from the
    follow-up's RAS+ mm to the baseline's; median_mm, p90_mm and area_cm2 of the skulls' inner tables, sure, sentence),
    growth_range (low_ml, median_ml, high_ml, draws_ml, jitter_mm, shift_mm; null without --range), lost (names of
    lesions of which nothing was found), carried_notes, record (the follow-up's, as of segment).
    """
    use_backend(backend)
    place = place_of(later, followup_series)
    place.check_send(send)
    scan, later = place_of(scan, series).path, place.path
    inputs = [*input_files(scan, later), *mask_files(marks)]
    baseline = with_label(read_scan(scan, series, add_offset), scan_label)
    followup = read_scan(later, followup_series, followup_add_offset)
    check_out(out or (), followup, inputs)
    given = _marks(marks, baseline)
    typed = labels.with_types([given], [labels.types_of_labels(label or ())])[0]
    found = assess_read(given, typed, baseline)
    predictor = load_predictor(model or given.method)
    try:
        with progress_bar(predictor.title) as progress:
            done = follow_up(
                predictor,
                found,
                followup,
                unsure_too=unsure,
                edge=edge is not False,
                hours=hours,
                thresholds=Thresholds(inclusive=not strict),
                with_range=with_range,
                progress=progress,
            )
    except UnsureError as error:
        raise UnsureError(f"{error} --unsure goes on all the same.") from error
    notes = []
    for path in out or ():
        if not is_evidence(path):
            write.save_marked(
                path,
                done.carried.marked,
                predictor.name,
                followup,
                made=done.identity.short,
                inputs=inputs,
            )
            notes.append(f"Mask of the follow-up written to {path}.")
    notes += write_evidence(out or (), done.found, later if identified else None, inputs)
    if send:
        notes += send_back(place, done.found)
    if as_json:
        record = segmentation_record(
            followup,
            done.carried.marked,
            model=predictor.name,
            weights_sha256=predictor.weights_sha256,
            second_look=False,
            identity=done.identity,
        )
        print_json(
            {
                **measure_record(
                    [found, done.found],
                    [typed.notes, done.found.notes],
                    between=done.growth,
                    strict=strict,
                ),
                "registration": registration_record(done.registration),
                "growth_range": None if done.range is None else asdict(done.range),
                "lost": [lesion.name for lesion in done.carried.lost],
                "carried_notes": done.carried.notes,
                "record": record,
            }
        )
        return
    for title, whole, said in (
        ("Baseline", found, typed.notes),
        ("Follow-up", done.found, done.notes),
    ):
        table = volume_table(whole.blood_zyx, whole.volume, f"{title}: {whole.volume.name}")
        print_people(table, [*whole.volume.remarks, *said], "")
    print_growth(done.growth, [*notes, NOTICE])


def _marks(path: Path, volume: CTVolume) -> LabelledMask:
    """What is marked on a scan: a mask's labels, or what a record makes again."""
    if path.suffix.lower() != ".json":
        return read_labelled_mask(path, volume)
    saved = load_session(path)
    saved.check_scan(volume)
    predictor = load_predictor(saved.model)
    changed = saved.check_model(predictor)
    with Console(stderr=True).status(predictor.title):
        marked = saved.run(predictor, volume)
    return LabelledMask(
        marked.labels_zyx(saved.model),
        tuple(marked.lesions),
        notes=tuple(changed),
        method=saved.model,
    )
