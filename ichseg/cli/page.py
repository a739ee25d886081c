"""``ichseg page``: the page in a browser, of the installed package."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path
from typing import Annotated

import typer

from ichseg.cli.options import Backend
from ichseg.errors import InputError


def page(
    backend: Backend = None,
    no_api: Annotated[
        bool,
        typer.Option("--no-api", metavar="", help="The page alone, without its API and MCP tools."),
    ] = False,
    study: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="SCANS RESULTS",
            help="Open and correct the scans of a study by the links of its report: what was given to report. "
            "Whoever reaches the page can read them.",
        ),
    ] = None,
    study_for_others: Annotated[
        bool,
        typer.Option(
            "--study-for-others",
            metavar="",
            help="Serve the study where others than this machine reach the page, too.",
        ),
    ] = False,
) -> None:
    """Serve the page at http://127.0.0.1:7860, or where GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say.

    It needs the extra: pip install 'ichseg[page]'.
    """
    if importlib.util.find_spec("gradio") is None:
        raise InputError(
            "The page is served by Gradio, which is not installed; install the extra: pip install 'ichseg[page]'."
        )
    # A program of its own above the command line: started by its name, as python -m ichseg.page does.
    sys.argv = ["ichseg page", *(["--backend", backend] if backend else []), *["--no-api"] * no_api]
    if study is not None:
        sys.argv += ["--study", *map(str, study)]
    sys.argv += ["--study-for-others"] * study_for_others
    runpy.run_module("ichseg.page", run_name="__main__")
