"""The command line of the fine-tune: python -m train prepare | finetune | baseline | proposals | evaluate | ...

Each command takes --help. A whole reproduction, from the data set's folder to the adapter's figures:

    python -m train prepare --dataset ct-ich-1.0.0 --root path/to/ct-ich-1.0.0 --out runs/data
    python -m train finetune --data runs/data --recipe paper --out runs/paper
    python -m train evaluate --data runs/data --run runs/paper --out runs/paper/scores
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from ichseg.errors import InputError
from train.data.cache import Prepared, prepare
from train.data.cases import DATASETS
from train.data.files import write_json
from train.data.split import VALIDATION_SHARE, make_split
from train.options import CrossValidated, Data, Folds, SplitSeed, console, folds_to_train
from train.proposals_cli import froc_command, proposals_command

app = typer.Typer(
    help="Reproduce the fine-tune of LiteMedSAM for intracranial hemorrhage on CT.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Base = Annotated[
    str,
    typer.Option(
        help="The network to adapt: litemedsam (256 x 256), or at 1024 x 1024 and for a GPU medsam or sam, whose "
        "weights weights/README.md says how to get; --set microbatch=1 takes least of a card's memory."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="A field of the recipe, e.g. --set rank=8 --set examples.box_per=component."
    ),
]


@app.command("prepare")
def prepare_command(
    root: Annotated[Path, typer.Option(help="The data set's own folder, as it was downloaded.")],
    out: Annotated[Path, typer.Option(help="Where to write the cache.")],
    dataset: Annotated[str, typer.Option(help=f"One of {', '.join(DATASETS)}.")] = "ct-ich-1.0.0",
) -> None:
    """Read a data set into a cache that every other command uses."""
    with Progress(console=console) as progress:
        task = progress.add_task("scans", total=None)
        prepared = prepare(dataset, root, out, on_case=lambda _: progress.advance(task))
    kinds = list(prepared.patients.values())
    console.print(
        f"{len(prepared.scans)} scans of {len(kinds)} patients: "
        + ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    )


@app.command("finetune")
def finetune_command(
    data: Data,
    out: Annotated[Path, typer.Option(help="The run's folder; fold K goes to OUT/fold-K.")],
    recipe: Annotated[
        str, typer.Option(help="A named recipe; `paper` is the published one.")
    ] = "paper",
    base: Base = "litemedsam",
    folds: Folds = 5,
    fold: Annotated[
        list[int] | None, typer.Option(help="Train these folds alone, e.g. --fold 0 --fold 3.")
    ] = None,
    split_seed: SplitSeed = 0,
    validation_share: Annotated[
        float,
        typer.Option(
            help="Of the patients who are not held out: set aside to choose an epoch by. 0 trains on them, too."
        ),
    ] = VALIDATION_SHARE,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option(help="Go on where each fold was left.")] = False,
    device: Annotated[str, typer.Option(help="auto, or cpu to leave a GPU alone.")] = "auto",
) -> None:
    """Train one adapter a fold. Interrupt it at any moment; --resume goes on from the last checkpoint.

    On several GPUs or machines: accelerate launch -m train finetune ...
    """
    from train.adapter import finetune
    from train.recipes import recipe_named

    config = recipe_named(recipe, base, settings or ())
    prepared = Prepared(data)
    split = make_split(prepared, folds, split_seed, validation_share)
    for number, target in folds_to_train(out, split, folds, fold, resume):
        finetune(
            config, prepared, split, number, target, resume=resume, console=console, device=device
        )
    write_json(out / "split.json", split)


@app.command("baseline")
def baseline_command(
    data: Data,
    out: Annotated[Path, typer.Option(help="The run's folder; fold K goes to OUT/fold-K.")],
    method: Annotated[str, typer.Option(help="random-forest, unet, resattunet or drunet.")],
    folds: Folds = 5,
    fold: Annotated[list[int] | None, typer.Option(help="Train these folds alone.")] = None,
    split_seed: SplitSeed = 0,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the data, for a network.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on where each fold was left.")] = False,
    device: Annotated[str, typer.Option(help="auto, or cpu to leave a GPU alone.")] = "auto",
) -> None:
    """Train a method that takes no box on the folds of the fine-tune. Interrupt it at any moment, and --resume it."""
    from train.baselines import train_baseline
    from train.recipes import configuration

    config = configuration(method, epochs)
    prepared = Prepared(data)
    split = make_split(prepared, folds, split_seed)
    for number, target in folds_to_train(out, split, folds, fold, resume):
        train_baseline(
            config, prepared, split, number, target, resume=resume, console=console, device=device
        )
    if folds:
        write_json(out / "split.json", split)


@app.command("evaluate")
def evaluate_command(
    data: Data,
    out: Annotated[
        Path, typer.Option(help="Where to write scores.csv, summary.json and summary.md.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="A catalogue name or an adapter's folder, scored on every patient with blood."
        ),
    ] = None,
    run: CrossValidated = None,
    protocol: Annotated[
        list[str] | None, typer.Option(help="Only these protocols; all by default.")
    ] = None,
    paper: Annotated[bool, typer.Option(help="Score in the paper's own protocol, too.")] = True,
    patient: Annotated[list[str] | None, typer.Option(help="Only these patients.")] = None,
    part: Annotated[
        str,
        typer.Option(
            help="With --run: test, or validation (for choices before the test; another --out)."
        ),
    ] = "test",
) -> None:
    """Score at native resolution through the application's own predictor; resumable fold by fold."""
    from train.scores.protocols import PROTOCOLS, protocols_named
    from train.scores.runs import evaluate_run
    from train.write.evaluation import write_report

    if part not in ("test", "validation"):
        raise InputError(f"A part is test or validation; got '{part}'; choose one of them.")
    rows, pooled = evaluate_run(
        Prepared(data),
        out,
        protocols_named(protocol or PROTOCOLS),
        model=model,
        run=run,
        patients=patient,
        part="validation" if part == "validation" else "test",
        paper=paper,
        console=console,
    )
    print(write_report(out, rows, pooled, title=model or str(run.name if run else "")))


@app.command("benchmark")
def benchmark_command(
    data: Data,
    runs: Annotated[Path, typer.Option(help="The folder of the cross-validated runs.")],
    out: Annotated[
        Path, typer.Option(help="Where to write benchmark.md, benchmark.csv and figure.png.")
    ],
    models: Annotated[str, typer.Option(metavar="A,B,..", help="Rows of the table.")] = "all",
    run: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROW=FOLDER", help="Take a row from another run below --runs. Repeatable."
        ),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where scores are kept; RUNS/benchmark by default.")
    ] = None,
    with_images: Annotated[
        bool, typer.Option("--with-images", help="Draw the figure over the CT, for your own use.")
    ] = False,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Bring absent public weights from the hub first.")
    ] = False,
    parallel: Annotated[
        bool,
        typer.Option("--parallel", "--ray", help="Patients side by side, on this machine's cores."),
    ] = False,
    ray_address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The same on a Ray cluster, e.g. auto.")
    ] = None,
) -> None:
    """Put every method of the paper side by side on the same cases: one table and one figure; resumable."""
    from ichseg.cohort import LOCAL
    from train.scores.benchmark import methods
    from train.write.benchmark import benchmark

    with Progress(console=console) as progress:
        task = progress.add_task("patients", total=None)
        text = benchmark(
            Prepared(data),
            runs,
            out,
            wanted=methods(models, run or []),
            cache=cache,
            with_images=with_images,
            fetch_weights=fetch,
            where=ray_address or (LOCAL if parallel else None),
            on_done=lambda done, total: progress.update(task, completed=done, total=total),
        )
    print(text)


@app.command("coverage")
def coverage_command(
    data: Data,
    out: Annotated[Path, typer.Option(help="Where to write coverage.csv and coverage.md.")],
    run: CrossValidated = None,
    model: Annotated[
        str | None, typer.Option(help="A catalogue name or an adapter's folder, on every patient.")
    ] = None,
    patient: Annotated[list[str] | None, typer.Option(help="Only these patients.")] = None,
) -> None:
    """Measure how often the true volume lies in the range that jittered boxes give, per patient."""
    from train.scores.coverage import cover_parts
    from train.scores.runs import parts
    from train.write.coverage import table, write_coverage

    prepared = Prepared(data)
    chosen = parts(prepared, model=model, run=run, patients=patient)
    with Progress(console=console) as progress:
        tasks = {name: progress.add_task(name, total=None) for name, *_ in chosen}
        rows = cover_parts(
            prepared,
            chosen,
            on_slice=lambda name, total: progress.update(tasks[name], advance=1, total=total),
        )
    write_coverage(out, rows, _title(model, run))
    print(table(rows))


@app.command("propagate")
def propagate_command(
    data: Data,
    out: Annotated[Path, typer.Option(help="Writes OUT.md and OUT.csv, e.g. docs/propagation.")],
    model: Annotated[
        str | None, typer.Option(help="A catalogue name or an adapter's folder, on every patient.")
    ] = None,
    run: CrossValidated = None,
    fold: Annotated[
        list[int] | None, typer.Option(help="Only these folds of the run; all by default.")
    ] = None,
    patient: Annotated[list[str] | None, typer.Option(help="Only these patients.")] = None,
    refinement: Annotated[
        bool,
        typer.Option(
            "--refinement/--no-refinement",
            "--second-look/--no-second-look",
            help="Measure with refinement, too: half a second a box on a CPU.",
        ),
    ] = False,
    sample: Annotated[bool, typer.Option(help="Measure the synthetic sample, too.")] = True,
    finders: Annotated[
        Path | None,
        typer.Option(help="A run of `proposals`: with what it proposes and a reference confirms."),
    ] = None,
    finder_rules: Annotated[
        Path, typer.Option(help="The summary.json of `froc`, with each fold's rule.")
    ] = Path("docs/proposals/summary.json"),
) -> None:
    """Measure how much of a hematoma one box finds, beside a box on every slice; resumable scan by scan."""
    from ichseg.errors import InputError
    from ichseg.methods.catalogue import load_predictor
    from train.scores.confirmed import Finders
    from train.scores.likeness import rules_tried
    from train.scores.propagation import measure_run, measure_sample
    from train.scores.runs import parts
    from train.write.propagation import write_propagation

    if finders is not None and run is None:
        raise InputError(
            "Proposals are measured by folds, each on the patients it never saw; got no --run; give the adapters' "
            "run, e.g. --run weights/folds/litemedsam-rslora."
        )
    prepared = Prepared(data)
    chosen = parts(prepared, model=model, run=run, folds=fold, patients=patient)
    if model is not None:
        chosen = [(_title(model, None), source, names) for _, source, names in chosen]
    with Progress(console=console) as progress:
        task = progress.add_task("scans", total=sum(len(names) for *_, names in chosen))
        rows = measure_run(
            prepared,
            out.with_suffix(".csv"),
            chosen,
            load_predictor,
            rules=rules_tried(),
            finders=None if finders is None or run is None else Finders(finders, finder_rules, run),
            refinement=refinement,
            on_scan=lambda _: progress.advance(task),
        )
    measured = measure_sample(load_predictor(chosen[0][1]), refinement=refinement) if sample else {}
    title = _title(model, run)
    if run is not None:
        title += f", {', '.join(name for name, *_ in chosen)}"
    print(write_propagation(out, rows, title, measured))


def _title(model: str | None, run: Path | None) -> str:
    """What a document calls the model or the run that it is about."""
    return Path(model).name if model is not None else str(run.name if run is not None else "")


@app.command("compare")
def compare_command(
    scores: Annotated[
        list[Path],
        typer.Option(help="A folder that `evaluate` wrote; repeat it, the shipped recipe last."),
    ],
    out: Annotated[Path, typer.Option(help="Writes OUT.md and OUT-curves.png.")] = Path(
        "docs/cross-validation"
    ),
    run: Annotated[
        list[Path] | None, typer.Option(help="A cross-validated run whose epochs are drawn.")
    ] = None,
) -> None:
    """Put scored methods side by side: by protocol, type and patient, with the worst slices and the curves."""
    from train.write.cross_validation import write_cross_validation

    print(write_cross_validation(out, scores, run or []))


@app.command("soften")
def soften_command(
    run: Annotated[Path, typer.Option(help="A finished run, or the folder of its folds.")],
    out: Annotated[Path, typer.Option(help="Where the softened run goes.")],
    strength: Annotated[
        float, typer.Option(help="0 is the un-tuned network, 1 the adapter as it was trained.")
    ],
) -> None:
    """Write a run's adapters at part of their strength, between the un-tuned network and the tuned one."""
    from train.soften import soften

    for adapter in soften(run, out, strength):
        console.print(f"{adapter.parent.name} at strength {strength:g}")


@app.command("sweep")
def sweep_command(
    data: Data,
    out: Annotated[Path, typer.Option(help="The sweep's folder; each run has its own below it.")],
    rank: Annotated[
        list[int] | None, typer.Option(help="Ranks; 4, 8, 16, 32, 64 by default.")
    ] = None,
    dropout: Annotated[
        list[float] | None, typer.Option(help="Dropouts; 0, 0.1, 0.25 by default.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="The recipe that rank and dropout vary.")] = "paper",
    fold: Annotated[int, typer.Option(help="Which fold's split.")] = 0,
    split_seed: SplitSeed = 0,
    settings: Settings = None,
) -> None:
    """Train every pair of rank (alpha = 2 rank) and dropout, as the paper did; one table and one plot at the end.

    What is complete is kept, so an interrupted sweep is simply started again.
    """
    from train.recipes import recipe_named
    from train.sweep import sweep

    prepared = Prepared(data)
    table = sweep(
        prepared,
        out,
        base=recipe_named(recipe, None, settings or ()),
        ranks=rank or [4, 8, 16, 32, 64],
        dropouts=dropout or [0.0, 0.1, 0.25],
        split=make_split(prepared, 5, split_seed),
        fold=fold,
        console=console,
    )
    print(table)


@app.command("export")
def export_command(
    run: Annotated[
        Path, typer.Option(help="A finished run's folder (the one that holds `adapter`).")
    ],
    name: Annotated[
        str, typer.Option(help="The model's name in weights/ and in the catalogue.")
    ] = "litemedsam-rslora",
    scores: Annotated[
        Path | None,
        typer.Option(help="A summary.json of `evaluate`, whose figures go into training.json."),
    ] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            help="Publish the adapter and its card as owner/name on the Hugging Face hub."
        ),
    ] = None,
) -> None:
    """Put a run's adapter into weights/ with its hash in the manifest, and publish it where asked."""
    from train.export import export, push

    folder = export(run, name, scores)
    console.print(f"exported to {folder.parent.name}/{folder.name}")
    if push_to_hub:
        console.print(push(folder, push_to_hub))


app.command("proposals")(proposals_command)
app.command("froc")(froc_command)


def main() -> None:
    """Run the command line; bad input is one line on standard error and exit status 2."""
    try:
        app()
    except InputError as error:
        print(
            json.dumps({"error": str(error)}) if "--json" in sys.argv else str(error),
            file=sys.stderr,
        )
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
