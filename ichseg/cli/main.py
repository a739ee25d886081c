"""The command line: python -m ichseg, or ichseg, with a command for each file of this folder.

Every command takes ``--json`` and then prints one JSON object on stdout and nothing else there; progress goes
to stderr. Exit 0, or 2 with one line on stderr that says rule, value and remedy; of many scans, 1 where
some were passed over. The keys of the objects stand in each command's help. In options and in JSON slices are
numbered from 0 at the foot end; tables for people show both.
"""

from __future__ import annotations

import sys

import typer

from ichseg import NOTICE
from ichseg.cli.agree import agree
from ichseg.cli.benchmark import benchmark
from ichseg.cli.compare import compare
from ichseg.cli.follow import follow
from ichseg.cli.info import info
from ichseg.cli.measure import measure
from ichseg.cli.page import page
from ichseg.cli.report import report
from ichseg.cli.segment import segment
from ichseg.errors import InputError

app = typer.Typer(
    name="ichseg",
    help=f"Hematomas on head CT, from boxes to millilitres. {NOTICE}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for command in (info, segment, compare, benchmark, measure, follow, report, agree, page):
    app.command()(command)


def main() -> None:
    """Run the command line; bad input is one line on stderr and exit 2."""
    try:
        app()
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
