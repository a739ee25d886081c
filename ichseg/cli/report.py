"""``ichseg report``: the results of many scans as one HTML file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ichseg import cohort
from ichseg.cli.options import AsJson, Parallel
from ichseg.cli.show import print_json, print_lines, progress_bar
from ichseg.replace_file import check_not_an_input, write_whole

if TYPE_CHECKING:
    pass


def report(
    scans: Annotated[
        Path, typer.Argument(metavar="SCANS", help="A manifest or a folder, as for segment.")
    ],
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="The folder that segment or measure wrote.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help=f"The HTML file. Default: {cohort.REPORT_NAME} in RESULTS."),
    ] = None,
    names: Annotated[
        bool,
        typer.Option(
            "--names", metavar="", help="Show the scans as the manifest writes them, for your eyes."
        ),
    ] = False,
    page: Annotated[
        str, typer.Option(help="Where the page answers in which scans are corrected.")
    ] = "http://127.0.0.1:7860",
    parallel: Parallel = False,
    as_json: AsJson = False,
) -> None:
    """Show many scans on one page: picture, millilitres and warnings of each, the odd ones first.

    The file needs no network. Each scan has a link to the page that `ichseg page --study SCANS RESULTS` serves, where
    it is corrected; segment then makes that scan's mask from the correction, and nothing else anew.

    JSON keys: report (the file), scans, versions, notice.
    """
    entries = cohort.read_manifest(scans)
    path = results / cohort.REPORT_NAME if out is None else out
    inputs = cohort.inputs_of_many(scans, entries)
    check_not_an_input(path, inputs)
    done = 0
    with progress_bar("Pictures") as tell:

        def on_done() -> None:
            nonlocal done
            done += 1
            tell(done / len(entries))

        content = cohort.report_html(
            entries,
            results,
            with_names=names,
            page_url=page,
            where=cohort.LOCAL if parallel else None,
            on_done=on_done,
        )
    write_whole(path, content, inputs=inputs)
    if as_json:
        print_json({"report": str(path), "scans": len(entries)})
        return
    print_lines(
        [
            f"Written: {path}. Open it in a browser.",
            f"To correct scans from it: {shlex.join(['ichseg', 'page', '--study', str(scans), str(results)])}",
        ]
    )
