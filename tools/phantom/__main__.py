"""Digital phantoms: python -m tools.phantom make | score | register | still | thin.

    pip install --no-deps nilearn==0.14.1     # its MNI152 maps, for `make` alone
    python -m tools.phantom make  --out runs/phantoms
    python -m tools.phantom score --out runs/phantoms      # writes docs/phantoms
    python -m tools.phantom register --out runs/pairs      # writes docs/phantoms/registration.md; wants nilearn, too
    python -m tools.phantom still --out runs/still         # writes docs/phantoms/still.md
    python -m tools.phantom thin --out runs/thin           # writes docs/phantoms/thin.md; wants nilearn, too

Each goes on where it was stopped. With ``--part held-out`` they are other phantoms, on which nothing was chosen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from tools.phantom.design import Design, Part, of_part
from tools.phantom.pairs import HELD_OUT_SEED, head_image, pairs

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor
    from tools.phantom.score import Measured

#: In the order of the table; SAM and MedSAM want weights that are not in the repository.
METHODS = (
    *("litemedsam-rslora", "litemedsam", "resattunet", "drunet", "unet"),
    *("random-forest", "fcm", "threshold"),
)

app = typer.Typer(help="Synthetic head CTs whose blood is known, and what methods measure on them.")
console = Console(stderr=True)

Out = Annotated[Path, typer.Option("--out", help="The folder of phantoms and of their scores.")]
Which = Annotated[
    Part,
    typer.Option(
        "--part",
        help="The phantoms that the edge was fitted on, those of a second seed that it was chosen on, too, or those "
        "on which nothing was chosen.",
    ),
]


def phantom_path(out: Path, design: Design) -> Path:
    """Where a phantom lies; the design's hash in its name keeps a stale one from being taken for it."""
    return out / f"{design.name}-{design.identity}.npz"


@app.callback()
def main() -> None:
    """Synthetic head CTs whose blood is known, and what methods measure on them."""


@app.command("make")
def make_command(out: Out, part: Which = "fitted") -> None:
    """Make the phantoms that are not there yet, about half a minute each."""
    from tools.phantom.make import make

    with Progress(console=console) as progress:
        for design in progress.track(of_part(part), description="phantoms"):
            path = phantom_path(out, design)
            if not path.exists():
                make(design).save(path)


@app.command("score")
def score_command(
    out: Out,
    docs: Annotated[Path, typer.Option(help="Where the table and the figure go.")] = Path(
        "docs/phantoms"
    ),
    models: Annotated[
        str, typer.Option(metavar="A,B,..", help="Methods of the catalogue.")
    ] = ",".join(METHODS),
    kept_only: Annotated[
        bool,
        typer.Option("--kept-only", help="Write from the masks that are there, and compute none."),
    ] = False,
    part: Which = "fitted",
) -> None:
    """Score every method on every phantom, and write the table, its CSV and the Bland-Altman figure; resumable.

    With --part held-out the page's figure goes beside the weights of each method that has a training record.
    """
    from ichseg.methods.catalogue import load_predictor
    from ichseg.methods.weights import WEIGHTS_DIR
    from tools.phantom.make import Phantom
    from tools.phantom.report import write, write_errors
    from tools.phantom.score import BOXES_PX, found_masks, kept_path, made_by, measured

    rows: list[Measured] = []
    todo = [(name, design) for name in models.split(",") for design in of_part(part)]
    predictors: dict[str, Predictor] = {}
    with Progress(console=console) as progress:
        for name, design in progress.track(todo, description="phantoms and methods"):
            if name not in predictors:
                predictors = {name: load_predictor(name)}
            predictor = predictors[name]
            phantom = Phantom.load(phantom_path(out, design))
            for boxes, margin_px in BOXES_PX.items():
                kept = kept_path(out, design, name, made_by(predictor), margin_px)
                if kept_only and not kept.exists():
                    continue
                found = found_masks(predictor, phantom, kept, margin_px)
                rows += measured(phantom, design, name, boxes, found)
    print(write(docs, rows, part=part))
    if part == "held-out":
        write_errors(rows, WEIGHTS_DIR)


@app.command("register")
def register_command(
    out: Out,
    docs: Annotated[Path, typer.Option(help="Where the table goes.")] = Path("docs/phantoms"),
    seed: Annotated[
        int, typer.Option(help="Of the pairs: on those of 31 and 32 limits were chosen.")
    ] = HELD_OUT_SEED,
) -> None:
    """Register pairs of scans of one head, and of two, and write the table; resumable, 20 s a pair."""
    from tools.phantom.register import registered, write

    image = head_image(out / "head.npz")
    rows = []
    with Progress(console=console) as progress:
        for pair in progress.track(pairs(seed), description="pairs"):
            rows.append(registered(pair, image, out / f"{pair.number:03d}-{pair.identity}.json"))
    print(write(docs, rows, seed))


@app.command("still")
def still_command(
    out: Out,
    docs: Annotated[Path, typer.Option(help="Where the table goes.")] = Path("docs/phantoms"),
    model: Annotated[str, typer.Option(help="A method of the catalogue.")] = "threshold",
) -> None:
    """Follow the sample between 20 pairs of noise copies, in which nothing grew, and write the table; resumable."""
    from ichseg.methods.catalogue import load_predictor
    from tools.phantom.still import COPIES, still, write

    predictor = load_predictor(model)
    out.mkdir(parents=True, exist_ok=True)
    with Progress(console=console) as progress:
        rows = [
            still(predictor, copy, out / f"still-{model}-{copy:02d}.json")
            for copy in progress.track(range(COPIES), description="noise copies")
        ]
    print(write(docs, rows))


@app.command("thin")
def thin_command(
    out: Out,
    docs: Annotated[Path, typer.Option(help="Where the table goes.")] = Path("docs/phantoms"),
    model: Annotated[str, typer.Option(help="A method of the catalogue.")] = "litemedsam-rslora",
) -> None:
    """Make the sample's head as a thin series, follow its lesions, and write the table; resumable."""
    from ichseg.methods.catalogue import load_predictor
    from tools.phantom.thin import SCAN, followed, make, write

    if not (out / SCAN).exists():
        make(out)
    predictor = load_predictor(model)
    with Progress(console=console) as progress:
        rows = list(progress.track(followed(predictor, out), total=12, description="followed"))
    print(write(docs, rows, predictor.title))


if __name__ == "__main__":
    app()
