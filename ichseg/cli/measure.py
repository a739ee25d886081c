"""``ichseg measure``: what a mask says, its growth, and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ichseg import cohort
from ichseg.cli.archive import place_of, send_back
from ichseg.cli.inputs import input_files, mask_files, read_scan
from ichseg.cli.many import Where, folder_for_many, hours_for_many, refuse_for_many, run_many
from ichseg.cli.options import (
    SCORES,
    AddOffset,
    AsJson,
    FollowupAddOffset,
    FollowupSeries,
    Hours,
    Identified,
    Parallel,
    Processes,
    RayAddress,
    RegularGrid,
    Scan,
    ScanLabel,
    Send,
    Series,
)
from ichseg.cli.outputs import check_folder, check_out, write_copies, write_evidence
from ichseg.cli.show import print_json, print_people, print_timeline, volume_table
from ichseg.errors import InputError
from ichseg.files import labels, write
from ichseg.files.mask import read_labelled_mask
from ichseg.files.measured import assess_read, measure_record
from ichseg.files.names import with_label
from ichseg.files.regular_grid import regular_grid_files
from ichseg.marks.lesion import TYPES, UNSPECIFIED
from ichseg.measures import fields, followup, growth
from ichseg.measures import scores as bedside
from ichseg.measures.assessment import Assessment, OtherScan
from ichseg.measures.timeline import timeline

if TYPE_CHECKING:
    pass


def measure(
    scan: Scan,
    mask: Annotated[
        Path | None,
        typer.Argument(
            metavar="MASK",
            help="Its mask on the same grid: NIfTI, .seg.nrrd, NRRD, MHA, DICOM-SEG, or archive of slices. Not of many "
            "scans, whose manifest has a column mask.",
            show_default=False,
        ),
    ] = None,
    further: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SCAN3 MASK3 ...",
            help="Still later scans and their masks, behind those of --followup: gives the volume against time.",
            show_default=False,
        ),
    ] = None,
    later: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--followup", metavar="SCAN2 MASK2", help="A later scan and its mask: gives the growth."
        ),
    ] = None,
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
            help=f"What label K of the masks is: {', '.join(TYPES)}. Repeatable. It completes what a mask says of its "
            "own labels. Where nobody says anything, 1 and 2 together are IPH and IVH.",
        ),
    ] = None,
    followup_label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="K=TYPE",
            help="The same, of MASK2 and later ones, where their labels are others.",
        ),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            help=f"Write the evidence of SCAN: {', '.join(write.endings('measures'))}. Repeatable. Of many scans: the "
            "folder of their tables."
        ),
    ] = None,
    regular_grid: RegularGrid = None,
    identified: Identified = False,
    send: Send = False,
    scan_label: ScanLabel = "",
    series: Series = None,
    add_offset: AddOffset = 0,
    followup_series: FollowupSeries = None,
    followup_add_offset: FollowupAddOffset = 0,
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
    parallel: Parallel = False,
    processes: Processes = None,
    ray_address: RayAddress = None,
    as_json: AsJson = False,
) -> None:
    """Measure a mask, lesion by lesion; its growth to follow-up scans; and the scores whose inputs are known.

    JSON keys: baseline, followup and growth (to it; both null without --followup), further (scans after that, as
    followup), timeline (null without --followup: of, counted, hours, scans_sha256, total and lesions: name, type and
    points, of scan, hours, ml, from_baseline and from_previous, each as one of growth's lesions; growths, from the
    baseline to each later scan; error_sentence, notes), scores, versions, notice. A scan's: scan (as of info),
    volume_ml, iph_ml (null, unknown, where no blood is of type IPH or some of unspecified type), ivh_ml (null where no
    mask has blood of type IVH), slices (slice, area_mm2, height_mm, volume_ml), hu (null for an empty mask), total and
    lesions (label, name, type, voxels, volume_ml, pieces, largest_piece_ml, slices, longest_in_plane, longest_in_3d,
    abc2, surface_area_mm2, hu, histogram, side, inner_table), notes; oedema counts for no total. growth: growth_ml,
    growth_percent, growth_ml_per_hour, ivh_growth_ml, of (iph, not ivh or all blood) and counted (the same in words),
    strict, within_measurement_error (of reading_error), model_error, error_sentence, notes, thresholds, definitions
    (classic, absolute, revised: expansion, null where it cannot be told, rule, because, source), lesions and types
    (name, type, baseline_ml, followup_ml, growth_ml, growth_percent, growth_ml_per_hour, is_new,
    within_measurement_error). scores: name, items (finding, name, value, points, most, rule), total (null where a
    finding is missing), least, most, missing, meaning, source.

    SCAN may also be a manifest (CSV: scan, mask, and lesions, truth, baseline, hours, series, add_offset). JSON keys
    are then those of segment for many.
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
    if mask is None:
        if not cohort.is_cohort(scan):
            raise InputError(
                f"A scan is measured with its mask; got {scan.name} alone; give SCAN MASK, or a manifest with a column "
                "mask."
            )
        refuse_for_many(
            {
                **{"--followup-label": followup_label, "--strict": strict},
                **{"--followup-series": followup_series, "--scan-label": scan_label},
                **{"--followup-add-offset": followup_add_offset, "--followup": later or further},
                **{"--identified": identified, "--send": send, "--regular-grid": regular_grid},
                "the findings of scores": findings != bedside.Findings(),
            }
        )
        hours_of_all = hours_for_many(hours)
        labels.types_of_labels(label or ())  # one that is none is refused before any scan
        entries = [
            entry.with_defaults(
                series=series,
                add_offset=add_offset or None,
                lesions=" ".join(label or ()),
                hours=hours_of_all,
            )
            for entry in cohort.read_manifest(scan)
        ]
        folder = folder_for_many(out[0] if out and len(out) == 1 else None)
        jobs = [cohort.Measure(entry, folder) for entry in entries]
        run_many(jobs, scan, Where(parallel, processes, ray_address), as_json)
        return
    types = labels.types_of_labels(label or ())
    place = place_of(scan, series)
    place.check_send(send)
    scan = place.path
    pairs = [
        (place_of(one, followup_series).path, its_mask)
        for one, its_mask in _pairs([*(later or ()), *(further or ())])
    ]
    volumes = [with_label(read_scan(scan, series, add_offset), scan_label)]
    inputs = [
        *input_files(scan, *(one for one, _ in pairs)),
        *mask_files(mask, *(its_mask for _, its_mask in pairs)),
    ]
    check_out(out or (), volumes[0], inputs, "measures", has_followup=bool(pairs))
    check_folder(regular_grid, inputs)
    masks = [read_labelled_mask(mask, volumes[0])]
    said = [types]
    for one, its_mask in pairs:
        volumes.append(read_scan(one, followup_series, followup_add_offset))
        masks.append(read_labelled_mask(its_mask, volumes[-1]))
        said.append(labels.types_of_labels(followup_label) if followup_label else types)
    typed = labels.with_types(masks, said)
    with Console(stderr=True).status("Measuring"):
        found = [assess_read(*each) for each in zip(masks, typed, volumes, strict=True)]
    bloods = [one.blood for one in found]
    told_over_time = None
    if pairs:
        told_over_time = timeline(
            bloods,
            hours=hours or (),
            acquired=[one.acquired_at for one in volumes],
            thresholds=growth.Thresholds(inclusive=not strict),
            methods=[one.method for one in masks],
        )
    between = None if told_over_time is None else told_over_time.growths[0]
    scores = bedside.scores(followup.findings(findings, *bloods[:2]))
    notes: list[str] = []
    if out or send:
        told = replace(
            found[0],
            growth=between,
            role=None if between is None else "baseline",
            scores=scores,
            other=None if between is None else OtherScan.of(found[1]),
            timeline=told_over_time,
            further=tuple(map(OtherScan.of, found[2:])),
        )
        notes = write_evidence(out or (), told, scan if identified else None, inputs)
        if send:
            notes += send_back(place, told)
    if regular_grid:
        first = masks[0]
        files, note = regular_grid_files(
            volumes[0], first.labels_zyx, first.lesions, method=first.method
        )
        notes += write_copies(regular_grid, files, note, inputs)
    has_ivh = any(blood.has_ivh for blood in bloods)
    if as_json:
        told_of = [one.notes for one in typed]
        print_json(
            measure_record(found, told_of, over_time=told_over_time, strict=strict, scores=scores)
        )
        return
    for role, whole, labelled in zip(labels.roles(len(found)), found, typed, strict=True):
        volume = whole.volume
        table = volume_table(whole.blood_zyx, volume, f"{role.capitalize()}: {volume.name}")
        print_people(table, [*volume.remarks, *labelled.notes], "")
        print_people(_measures_table(whole, has_ivh), _measures_notes(whole), "")
    if told_over_time is not None:
        print_timeline(told_over_time)
    print_people(_scores_table(scores), notes)


def _pairs(paths: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Follow-ups, each with its mask."""
    if len(paths) % 2:
        raise InputError(
            f"Each later scan comes with its mask; got {paths[-1].name} alone; give e.g. --followup SCAN2 MASK2 SCAN3 "
            "MASK3."
        )
    return list(zip(paths[::2], paths[1::2], strict=True))


def _measures_table(found: Assessment, has_ivh: bool) -> Table:
    """All measures of one scan, a column for the whole and each lesion."""
    named = [
        f"{one.id}. {one.name}" + ("" if one.type == UNSPECIFIED else f" ({one.type})")
        for one in found.lesions
    ]
    columns = [found.total, *found.measures] if len(named) > 1 else [found.total]
    table = Table("", *("All blood", *named)[: len(columns)])
    blood = found.blood
    for line in fields.table_lines("terminal", columns):
        if any(line.cells):
            table.add_row(line.head, *(cell or "-" for cell in line.cells))
        if line.key != "volume_ml":
            continue
        for name, ml in (
            ("Intraparenchymal, mL", blood.parenchymal_ml),
            ("Intraventricular, mL", blood.ivh_ml if has_ivh else None),
        ):
            if ml is not None:
                table.add_row(name, f"{ml:.2f}")
    return table


def _measures_notes(found: Assessment) -> list[str]:
    """Why a side or a distance is not given, each reason once."""
    reasons = [
        at.reason
        for one in (found.total, *found.measures)
        for at in (one.side, one.inner_table)
        if one.voxels and at and at.reason
    ]
    return list(dict.fromkeys(reasons))


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
