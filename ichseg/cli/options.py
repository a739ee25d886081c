"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ichseg.marks.lesion import TYPES
from ichseg.methods.backends import BACKEND_VARIABLE, BACKENDS

if TYPE_CHECKING:
    pass


Scan = Annotated[
    Path,
    typer.Argument(
        metavar="SCAN",
        help="A head CT: NIfTI, NRRD or MHA file, DICOM folder, or zip; or dicomweb://STUDY, by its UID or accession "
        "number, from the archive that the environment names.",
    ),
]


Slices = Annotated[
    list[int] | None,
    typer.Option("--slice", metavar="K", help="The slice of the next box, from 0. Repeatable."),
]


Boxes = Annotated[
    list[str] | None,
    typer.Option(
        "--box",
        metavar="X0,Y0,X1,Y1",
        help="A box in pixels of the slice, half-open; of another lesion than the first with @K. As many as --slice, "
        "in the same order.",
    ),
]


Lesions = Annotated[
    list[str] | None,
    typer.Option(
        "--lesion",
        metavar="K=TYPE",
        help=f"What lesion K is: {', '.join(TYPES)}. Repeatable. A --box of it ends in @K; without, it is lesion 1's.",
    ),
]


Auto = Annotated[
    bool,
    typer.Option(
        "--auto",
        metavar="",
        help="Mark what looks like blood, without a box. It may miss blood and take other tissue for it.",
    ),
]


WithRange = Annotated[
    bool,
    typer.Option(
        "--range/--no-range",
        help="Draw the boxes anew for the range of volumes. Without it many scans take a third of the time or less.",
    ),
]


EdgeOption = Annotated[
    bool | None,
    typer.Option(
        "--edge/--no-edge",
        help="Draw the edge at half height on what LiteMedSAM, SAM or MedSAM found, where tissue lies around the "
        "blood. On by default.",
        show_default=False,
    ),
]


Series = Annotated[
    str | None, typer.Option(help="Which DICOM series of SCAN to read, where there are several.")
]


AddOffset = Annotated[
    int, typer.Option(help="Added to SCAN's values, e.g. -1024 where the file lacks that offset.")
]


Hours = Annotated[
    list[float] | None,
    typer.Option(
        help="From SCAN to SCAN2: gives the growth in mL/h. Repeatable, from SCAN to each later one in turn. Default: "
        "by the times in their DICOM headers."
    ),
]


FollowupSeries = Annotated[
    str | None, typer.Option(help="As --series, of SCAN2 and later ones.", metavar="TEXT")
]


FollowupAddOffset = Annotated[
    int, typer.Option(help="As --add-offset, of SCAN2 and later ones.", metavar="INTEGER")
]


Models = Annotated[
    str | None, typer.Option(metavar="A,B,..", help="Model names. Default: all that are here.")
]


Parallel = Annotated[
    bool,
    typer.Option(
        "--parallel",
        "--ray",  # its former name
        metavar="",
        help="Many scans side by side, on this machine's cores.",
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(
        min=1, help="How many side by side on this machine, each with its part of the cores."
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="The same on a Ray cluster, e.g. auto. Needs the package ray."
    ),
]
Identified = Annotated[
    bool,
    typer.Option(
        "--identified",
        metavar="",
        help="A .dcm gets the patient's name and number from SCAN, so that an archive files it with them. "
        "Without it they are left empty.",
    ),
]


RegularGrid = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Also write a copy of scan and mask, resampled to a regular grid, for programs that refuse slices that "
        "are stacked aslant or unevenly, such as those built on ITK.",
    ),
]


Send = Annotated[
    bool,
    typer.Option(
        "--send",
        metavar="",
        help="Send a DICOM-SEG and a structured report, with the patient's identity, back to the archive that the scan "
        "came from.",
    ),
]


ScanLabel = Annotated[
    str,
    typer.Option(
        metavar="TEXT",
        help="What the files call SCAN, in place of the first 8 digits of its hash. Never a patient's name.",
    ),
]


SCORES: Any = {"rich_help_panel": "For the scores: what is not given is named as missing"}


Backend = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"What computes LiteMedSAM: {', '.join(BACKENDS)} (the faster one that is here). "
        f"Default: ${BACKEND_VARIABLE}, else auto.",
    ),
]


AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout.", metavar="")
]
