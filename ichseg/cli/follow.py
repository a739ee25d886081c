"""``ichseg follow``: from a marked baseline and its follow-ups to the growth, with no box on the follow-ups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

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
    FollowupAddOffset,
    FollowupSeries,
    Hours,
    Identified,
    ScanLabel,
    Send,
    Series,
)
from ichseg.cli.outputs import check_out, is_evidence, write_evidence
from ichseg.cli.show import (
    print_json,
    print_people,
    print_timeline,
    progress_bar,
    volume_table,
)
from ichseg.errors import UnsureError
from ichseg.files import labels, write
from ichseg.files.mask import LabelledMask, read_labelled_mask
from ichseg.files.measured import assess_read, measure_record
from ichseg.files.names import of_scan, with_label
from ichseg.files.session import load_session, segmentation_record
from ichseg.marks.lesion import TYPES
from ichseg.measures.carried import FollowedUp, follow_series, registration_record
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
    later: Annotated[
        list[Path],
        typer.Argument(
            metavar="SCAN2 ...",
            help="The follow-up: any head CT; or several in the order of their times, for the volume against time.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help=f"What looks at the follow-up: {', '.join(CATALOGUE)}, or an adapter's folder or hub id. Default: "
            "what made the marks, if they say so."
        ),
    ] = None,
    edge: EdgeOption = None,
    hours: Hours = None,
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
            help="Write the follow-up's mask (.nii.gz, .zip ..), of later ones with -scan3 .. in the name, or the "
            f"evidence of SCAN2 with the growth: {', '.join(write.endings('measures'))}. Repeatable."
        ),
    ] = None,
    identified: Identified = False,
    send: Send = False,
    scan_label: ScanLabel = "",
    series: Series = None,
    add_offset: AddOffset = 0,
    followup_series: FollowupSeries = None,
    followup_add_offset: FollowupAddOffset = 0,
    backend: Backend = None,
    as_json: AsJson = False,
) -> None:
    """Mark a follow-up by its baseline, and tell the growth.

    The two scans are registered by the skull. Boxes are drawn on the follow-up where the baseline's lesions are, and
    MODEL goes on from there; each lesion keeps its name and type. Volumes are measured on each scan's own grid. Each of
    several follow-ups is marked by the baseline for itself.

    JSON keys: those of measure (baseline, followup, further, growth, timeline, scores), and: registration (matrix, 4 x
    4, from the follow-up's RAS+ mm to the baseline's; median_mm, p90_mm and area_cm2 of the skulls' inner tables, sure,
    sentence), growth_range (low_ml, median_ml, high_ml, draws_ml, jitter_mm, shift_mm; null without --range), lost
    (names of lesions of which nothing was found), carried_notes, record (the follow-up's, as of segment). Each of
    further has these, too.
    """
    use_backend(backend)
    places = [place_of(one, followup_series) for one in later]
    for place in places:
        place.check_send(send)
    scan = place_of(scan, series).path
    inputs = [*input_files(scan, *(place.path for place in places)), *mask_files(marks)]
    baseline = with_label(read_scan(scan, series, add_offset), scan_label)
    volumes = [read_scan(place.path, followup_series, followup_add_offset) for place in places]
    for at, volume in enumerate(volumes):
        check_out(_names(out, at), volume, inputs, has_followup=True)
    given = _marks(marks, baseline)
    typed = labels.with_types([given], [labels.types_of_labels(label or ())])[0]
    found = assess_read(given, typed, baseline)
    predictor = load_predictor(model or given.method)
    try:
        with progress_bar(predictor.title) as progress:
            done, over_time = follow_series(
                predictor,
                found,
                volumes,
                unsure_too=unsure,
                edge=edge is not False,
                hours=hours or (),
                thresholds=Thresholds(inclusive=not strict),
                with_range=with_range,
                progress=progress,
            )
    except UnsureError as error:
        raise UnsureError(f"{error} --unsure goes on all the same.") from error
    notes = [
        note for at, one in enumerate(done) for note in _write_mask(_names(out, at), one, inputs)
    ]
    identity_from = places[0].path if identified else None
    notes += write_evidence(out or (), done[0].found, identity_from, inputs)
    if send:
        for place, one in zip(places, done, strict=True):
            notes += send_back(place, one.found)
    if as_json:
        record = measure_record(
            [found, *(one.found for one in done)],
            [typed.notes, *(one.found.notes for one in done)],
            over_time=over_time,
            strict=strict,
        )
        first, *others = map(_record, done)
        record["further"] = [
            measured | other for measured, other in zip(record["further"], others, strict=True)
        ]
        print_json(record | first)
        return
    wholes = [(found, typed.notes), *((one.found, one.notes) for one in done)]
    for role, (whole, said) in zip(labels.roles(len(wholes)), wholes, strict=True):
        table = volume_table(
            whole.blood_zyx, whole.volume, f"{role.capitalize()}: {whole.volume.name}"
        )
        print_people(table, [*whole.volume.remarks, *said], "")
    print_timeline(over_time, [*notes, NOTICE])


def _names(out: Sequence[Path] | None, at: int) -> list[Path]:
    """The files of a follow-up, from 0: of all but the first masks alone, with the scan's number in the name."""
    if at == 0:
        return list(out or ())
    masks = (path for path in out or () if not is_evidence(path))
    return [of_scan(path, at + 2, write.endings("mask")) for path in masks]


def _write_mask(paths: Sequence[Path], one: FollowedUp, inputs: Sequence[Path]) -> Iterator[str]:
    """Write the mask of a follow-up where it is asked for, and say so."""
    for path in paths:
        if not is_evidence(path):
            write.save_marked(
                path,
                one.carried.marked,
                one.found.model or "",
                one.found.volume,
                made=one.identity.short,
                inputs=inputs,
            )
            yield f"Mask of the follow-up written to {path}."


def _record(one: FollowedUp) -> dict[str, Any]:
    """What came of a follow-up beside its measures, for JSON."""
    return {
        "registration": registration_record(one.registration),
        "growth_range": None if one.range is None else asdict(one.range),
        "lost": [lesion.name for lesion in one.carried.lost],
        "carried_notes": one.carried.notes,
        "record": segmentation_record(
            one.found.volume,
            one.carried.marked,
            model=one.found.model or "",
            weights_sha256=one.found.weights_sha256,
            second_look=False,
            identity=one.identity,
        ),
    }


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
