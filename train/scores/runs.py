"""Models and cross-validated runs, scored part by part: each patient by a model that never saw it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress

from ichseg.errors import InputError
from ichseg.methods.catalogue import load_predictor
from ichseg.methods.predictor import Predictor
from train.data.cache import Prepared
from train.data.slices import native_slices
from train.scores.cache import KeptRows, cache_key, kept_answer
from train.scores.evaluate import Score, score, score_as_paper
from train.scores.protocols import Protocol

#: Patients that a fold never trained on: those it is scored by, and those that were watched while it trained.
Part = Literal["test", "validation"]


def evaluate_run(
    prepared: Prepared,
    out: Path,
    protocols: Sequence[Protocol],
    *,
    model: str | None = None,
    run: Path | None = None,
    patients: Sequence[str] | None = None,
    part: Part = "test",
    paper: bool = True,
    console: Console | None = None,
) -> tuple[list[Score], dict[str, Any] | None]:
    """Score a model on all patients, or a cross-validated run's adapters each on the patients it never saw.

    ``part`` "validation" scores a run's folds on the patients they were watched on, for choices that the test patients
    have no part in. It wants an ``out`` of its own.

    Scores are written patient by patient to ``out``. What is there is not scored again if it came from the same model,
    code, data and protocol (``cache_key``); what came from others is replaced. Returns the rows of the patients and
    protocols that are asked for and, with ``paper``, Dice and Jaccard in the paper's protocol, one pair a part.
    """
    rows: list[Score] = []
    pooled: dict[str, Any] = {}
    for name, source, held_out in parts(
        prepared, model=model, run=run, patients=patients, part=part
    ):
        predictor = load_predictor(source)
        with Progress(console=console or Console(stderr=True)) as progress:
            task = progress.add_task(name, total=len(held_out))
            rows += _scored(
                predictor,
                prepared,
                held_out,
                protocols,
                out / f"scores-{name}.csv",
                on_patient=partial(progress.advance, task),
            )
        if paper:
            pooled[name] = _as_paper(predictor, prepared, held_out, out / f"paper-{name}.json")
    return rows, pooled if paper else None


def _scored(
    predictor: Predictor,
    prepared: Prepared,
    patients: Sequence[str],
    protocols: Sequence[Protocol],
    path: Path,
    on_patient: Callable[[], object],
) -> list[Score]:
    """A model's scores of some patients, those that ``path`` has among them, and all of them in it when it is done."""
    keys = {
        protocol.name: cache_key(
            predictor,
            prepared,
            refinement=protocol.refinement,
            asked=dataclasses.asdict(protocol),
        )
        for protocol in protocols
    }
    kept = KeptRows(path, Score)
    # Other protocols of the same model stay: their keys are compared when they are asked for.
    kept.keep(lambda row: keys.get(row.protocol, row.key) == row.key != "")
    wanted: list[Score] = []
    for patient in patients:
        there = [
            row for row in kept.rows if row.patient == patient and row.key == keys.get(row.protocol)
        ]
        done = {row.protocol for row in there}
        if missing := [protocol for protocol in protocols if protocol.name not in done]:
            found = score(predictor, native_slices(prepared, [patient]), missing)
            found = [dataclasses.replace(row, key=keys[row.protocol]) for row in found]
            kept.add(found)
            there += found
        wanted += there
        on_patient()
    return wanted


def _as_paper(
    predictor: Predictor, prepared: Prepared, patients: Sequence[str], path: Path
) -> dict[str, float]:
    """Dice and Jaccard in the paper's protocol, which pools the patients' slices; from ``path`` where it has them."""
    key = cache_key(
        predictor, prepared, refinement=False, asked={"paper": True, "patients": list(patients)}
    )

    def make() -> dict[str, float]:
        dice, jaccard = score_as_paper(predictor, native_slices(prepared, patients))
        return {"dice": dice, "jaccard": jaccard}

    return kept_answer(path, key, make)


def parts(
    prepared: Prepared,
    *,
    model: str | None = None,
    run: Path | None = None,
    folds: Sequence[int] | None = None,
    patients: Sequence[str] | None = None,
    part: Part = "test",
) -> list[tuple[str, str, list[str]]]:
    """(name, model or trained folder, patients with blood) of each part to score: a model, or a run's folds.

    Each fold's model is for the patients it never saw. ``folds`` and ``patients`` take some of them.

    Raises:
        InputError: a model and a run, or neither; a run without folds; a fold that is not there or not finished; a
            patient who is not in the data.

    """
    if (model is None) == (run is None):
        raise InputError(
            "Scores are of one model or one cross-validated run; got both or neither; give either --model or --run."
        )
    wanted = {name for name, kind in prepared.patients.items() if kind != "none"}
    if patients:
        wanted &= {scan.patient_id for scan in prepared.scans_of(patients)}
    if model is not None:
        return [("all", model, sorted(wanted))]
    assert run is not None
    there = sorted(int(path.name.split("-")[1]) for path in run.glob("fold-*"))
    if not there:
        raise InputError(
            f"A cross-validated run holds fold-0, fold-1, ...; '{run.name}' has none; train it with --folds 5."
        )
    out = []
    for number in folds or there:
        fold = run / f"fold-{number}"
        whole = fold / "model"  # of a method that is no adapter
        trained = whole if whole.is_dir() else fold / "adapter"
        # The curves are drawn last: a fold without them is still in training, its adapter not the final one.
        if not (fold / "curves.png").exists():
            raise InputError(
                f"A run is scored when it is finished; '{run.name}/{fold.name}' is not; resume it first."
            )
        held_out = json.loads((fold / "split.json").read_text(encoding="utf-8"))[part]
        if mine := sorted(wanted & set(held_out)):
            out.append((fold.name, str(trained), mine))
    return out
