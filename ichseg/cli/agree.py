"""``ichseg agree``: how well two readers, or a reader and a method, agree over many scans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ichseg.cli.options import AsJson
from ichseg.cli.show import print_json, print_people
from ichseg.cohort.agree import (
    PLOT_NAME,
    Summary,
    agreement_rows,
    agreement_tables,
    summaries,
    summary_record,
)
from ichseg.replace_file import check_not_an_input, write_whole

if TYPE_CHECKING:
    pass


def agree(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="A folder of masks: NIfTI, NRRD, .seg.nrrd or MHA.")
    ],
    b: Annotated[
        Path, typer.Argument(metavar="B", help="Another reader's masks of the same scans.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The folder of the tables and of the Bland-Altman plot."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two folders of masks: Dice, surface Dice, volumes, limits of agreement and ICC, by lesion.

    Masks are paired by their files' names, else by the scan that they say they are of; lesions by type where both masks
    tell it, else by label. A difference is B less A. Where either folder has a mask that the other has not, or two that
    cannot be compared, that costs one row, and the exit code is 1.

    JSON keys: pairs (a row of agreement.csv each), summaries (a row of agreement-summary.csv each), failed (how many
    pairs have no result), versions, notice.
    """
    rows = agreement_rows(a, b)
    found = summaries(rows)
    failed = [row for row in rows if row.get("error")]
    notes = [f"Pair {row['pair']}: {row['error']}" for row in failed]
    notes += [
        f"{one.lesion}: not computed, {one.not_computed}." for one in found if one.not_computed
    ]
    if out is not None:
        from ichseg.cohort.agree_plot import bland_altman_png

        files = {**agreement_tables(rows, found)}
        if found:
            files[PLOT_NAME] = bland_altman_png(rows, found, (a.name, b.name))
        for name in files:
            check_not_an_input(out / name, [a, b])
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_whole(out / name, content, inputs=[a, b])
        notes.append(f"Tables and plot are in {out}.")
    if as_json:
        print_json(
            {
                "pairs": rows,
                "summaries": [summary_record(one) for one in found],
                "failed": len(failed),
            }
        )
    else:
        print_people(_table(found), notes)
    if failed:
        raise typer.Exit(1)


def _table(found: Sequence[Summary]) -> Table:
    table = Table("Lesion", "pairs", "bias, mL", "limits, mL", "ICC(A,1)", "Dice", "surface Dice")
    for one in found:
        table.add_row(
            one.lesion,
            str(one.pairs),
            _text("{:+.2f}", one.bias_ml),
            _text("{:+.2f} to {:+.2f}", one.low_ml, one.high_ml),
            _text("{:.3f} ({:.3f} to {:.3f})", one.icc, one.icc_low, one.icc_high),
            _text("{:.3f} ± {:.3f}", one.dice_mean, one.dice_sd),
            _text("{:.3f} ± {:.3f}", one.surface_dice_mean, one.surface_dice_sd),
        )
    return table


def _text(form: str, *values: float | None) -> str:
    return "-" if None in values else form.format(*values)
