"""``ichseg benchmark``: several models over many scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ichseg import cohort
from ichseg.cli.inputs import model_names
from ichseg.cli.many import Where, folder_for_many, run_many
from ichseg.cli.options import (
    AsJson,
    Backend,
    EdgeOption,
    Models,
    Parallel,
    Processes,
    RayAddress,
)
from ichseg.methods.backends import use_backend

if TYPE_CHECKING:
    pass


def benchmark(
    scans: Annotated[
        Path, typer.Argument(metavar="SCANS", help="A manifest or a folder, as for segment.")
    ],
    out: Annotated[Path, typer.Option(help="The folder of the scores.")],
    models: Models = None,
    edge: EdgeOption = None,
    parallel: Parallel = False,
    processes: Processes = None,
    ray_address: RayAddress = None,
    backend: Backend = None,
    as_json: AsJson = False,
) -> None:
    """Compare models over many scans: the boxes of each, against its reference mask where it has one.

    JSON keys: scans (a row of results.csv for each scan and model), models (model, scans, mean and sd of dice, of
    boxed_dice and of the absolute difference_ml, seconds_a_slice), caveat, passed_over, versions, notice.
    """
    use_backend(backend)
    names = tuple(model_names(models))
    entries = cohort.read_manifest(scans)
    jobs = [
        cohort.Compare(entry, folder_for_many(out), names, edge=edge is not False)
        for entry in entries
    ]
    run_many(jobs, scans, Where(parallel, processes, ray_address), as_json)
