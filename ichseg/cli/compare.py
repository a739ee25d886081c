"""``ichseg compare``: several models on the same boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ichseg import cohort
from ichseg.cli.archive import place_of
from ichseg.cli.inputs import boxes_by_slice, model_names, read_scan
from ichseg.cli.many import CAVEAT
from ichseg.cli.options import (
    AddOffset,
    AsJson,
    Backend,
    Boxes,
    EdgeOption,
    Models,
    Scan,
    Series,
    Slices,
)
from ichseg.cli.show import print_json, print_people, with_bar
from ichseg.files.mask import read_labelled_mask
from ichseg.files.records import scan_record
from ichseg.marks.record import boxes_record
from ichseg.methods.backends import use_backend
from ichseg.methods.catalogue import load_predictor, mask_identity

if TYPE_CHECKING:
    pass


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
    """Run several models on the same boxes, and score them where the reference mask is given.

    JSON keys: scan (as of info), boxes (slice, box_xyxy), models, caveat, versions, notice. Each of
    models has model, title, weights_sha256, identity, slices, boxed_slices and whole_scan; slices is a list
    with the slice's index. These three hold volume_ml, and with --truth truth_ml, difference_ml
    (model less reference) and dice (null where both are empty).
    """
    use_backend(backend)
    prompts = boxes_by_slice(slices, boxes)
    names = model_names(models)
    volume = read_scan(place_of(scan, series).path, series, add_offset)
    reference = None if truth is None else read_labelled_mask(truth, volume)
    reference_zyx = None if reference is None else reference.blood_zyx
    with_edge = edge is not False
    marked = cohort.prompted(volume, prompts, with_edge)
    predictors = [load_predictor(name) for name in names]
    for predictor in predictors:
        cohort.add_masks(
            marked, volume, predictor, with_bar(marked.marked_slices(), predictor.title)
        )
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
                    {"slice": k, **cohort.score_slices(mask_zyx, reference_zyx, volume, [k])}
                    for k in boxed
                ],
                "boxed_slices": cohort.score_slices(mask_zyx, reference_zyx, volume, boxed),
                "whole_scan": cohort.score_slices(
                    mask_zyx, reference_zyx, volume, range(len(mask_zyx))
                ),
            }
        )
    caveat = CAVEAT if reference_zyx is not None else None
    if as_json:
        print_json(
            {
                "scan": scan_record(volume),
                "boxes": boxes_record({k: marked.boxes(k) for k in boxed}),
                "models": results,
                "caveat": caveat,
            }
        )
        return
    of_reference = () if reference is None else reference.notes
    notes = [*volume.remarks, *of_reference, *([caveat] if caveat else [])]
    print_people(_score_table(results), notes)


def _score_table(results: Sequence[Mapping[str, Any]]) -> Table:
    scored = "dice" in results[0]["whole_scan"]
    table = Table("Model", "Slice")
    for heading in ("mL", "reference, mL", "difference, mL", "Dice") if scored else ("mL",):
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
