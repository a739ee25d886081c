"""Every method of the paper on the same cases: python -m train benchmark --data ... --runs ... --out docs/benchmark

A method without training is scored by its catalogue name on every patient with blood; a trained one as a
cross-validated run, each fold's model on the patients it never saw. Scores and masks are kept patient by patient under
a key of what they came from (weights, code of the predictor, data, protocols), so a run that was stopped goes on, and
a model that has changed is scored anew. A method that cannot run is a row that says why.
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open

from ichseg import cohort
from ichseg.errors import InputError
from ichseg.files import export
from ichseg.methods.catalogue import CATALOGUE, available, base_of, fetch, load_base, load_predictor
from ichseg.methods.predictor import NetworkPredictor, Predictor
from ichseg.replace_file import write_whole
from train import figure
from train.cache_key import cache_key
from train.dataset import NativeSlice, Prepared, cell, native_slices, replace_file, write_json
from train.evaluate import (
    PROTOCOLS,
    Score,
    masks_as_paper,
    read_scores,
    score,
    summary_of,
    write_scores,
)
from train.metrics import Summary, batch_pooled, paired_difference
from train.report import OPTIMISTIC, parts

Mask = npt.NDArray[np.bool_]

#: One box around all blood of a slice, and one around each piece.
BENCHMARK_PROTOCOLS = (PROTOCOLS["slice"], PROTOCOLS["piece"])
#: The row that the others are compared with, and the one whose scores choose the figure's slices.
ZERO_SHOT, SHIPPED = "litemedsam", "litemedsam-rslora"
#: Of the cached scores; a change of what is scored, or of how it is kept, makes it another.
CACHE_FORMAT = 1
#: Slices that every method is timed on, spread evenly over all that are scored.
TIMED_SLICES = 8


@dataclass(frozen=True)
class Published:
    """Dice and Jaccard as Guo, Law, Park 2024 give them (Table I), on data that are not public."""

    test: tuple[float, float]
    validation: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True)
class Method:
    """A row of the table: a model of the catalogue, or a cross-validated run."""

    name: str
    title: str
    run: str | None = None
    """The run's folder below --runs; None for a model of the catalogue that needs no training here."""
    published: Published | None = None


METHODS = (
    Method("threshold", "Threshold in the box"),
    Method("fcm", "Fuzzy c-means"),
    Method("random-forest", "Random forest", "random-forest"),
    Method("unet", "U-Net", "unet"),
    Method(
        "resattunet",
        "Residual Attention U-Net",
        "resattunet",
        Published((0.7070, 0.5468), (0.6178, 0.4469)),
    ),
    Method(
        "drunet",
        "DR-UNet",
        "drunet",
        Published((0.874, 0.794), note="as its own authors report on their data"),
    ),
    Method("sam", "SAM (ViT-B)"),
    Method("medsam", "MedSAM (ViT-B)", None, Published((0.8469, 0.7499), (0.8126, 0.7005))),
    Method("litemedsam", "LiteMedSAM", None, Published((0.8103, 0.7127), (0.7842, 0.6755))),
    Method(
        "litemedsam-rslora-paper",
        "LiteMedSAM + rsLoRA, the paper's recipe",
        "paper-short",
        Published((0.9249, 0.8725), (0.9307, 0.8747)),
    ),
    Method("litemedsam-rslora", "LiteMedSAM + rsLoRA, best recipe", "crops"),
)


def methods(names: str, runs: Sequence[str] = ()) -> list[Method]:
    """The rows that are asked for, "all" or names apart by commas, some from other runs (each "row=folder")."""
    known = {method.name: method for method in METHODS}
    others = dict(item.partition("=")[::2] for item in runs)
    wanted = list(known) if names == "all" else [name.strip() for name in names.split(",")]
    for name in [*wanted, *others]:
        if name not in known:
            raise InputError(
                f"A row of the table is one of {', '.join(known)}; got '{name}'; choose one of them, or 'all'."
            )
    if bare := [name for name, folder in others.items() if not folder or not known[name].run]:
        raise InputError(
            f"--run says ROW=FOLDER of a row that is a cross-validated run; got '{bare[0]}'; give e.g. unet=unet-2."
        )
    return [replace(known[name], run=others.get(name, known[name].run)) for name in wanted]


@dataclass(frozen=True)
class Facts:
    """What a table says of a model besides its scores."""

    takes_box: bool
    parameters: int | None
    """None where what is learned is no network (a forest)."""
    trainable: int | None
    """Of those, what was trained on hemorrhage here."""


@dataclass
class Row:
    """A method's scores over all its patients, or the reason why there are none."""

    method: Method
    scores: list[Score] = field(default_factory=list)
    facts: Facts | None = None
    source: str = ""
    """Of the first of its models: a catalogue name or a folder."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Median seconds a slice by protocol, as ``time_slices`` takes them."""
    recipe: str = ""
    reason: str = ""
    masks: dict[tuple[str, int], Mask] = field(default_factory=dict)
    """By scan and slice: the answer to one box around all blood."""
    small: list[tuple[Mask, Mask]] = field(default_factory=list)
    """(Prediction, truth) at 256 x 256, in the paper's own protocol, patient after patient."""

    def of(self, protocol: str) -> list[Score]:
        """The scores of one protocol."""
        return [row for row in self.scores if row.protocol == protocol]


def benchmark(
    prepared: Prepared,
    runs: Path,
    out: Path,
    *,
    wanted: Sequence[Method] = METHODS,
    cache: Path | None = None,
    with_images: bool = False,
    fetch_weights: bool = False,
    where: str | None = None,
    on_done: Callable[[int, int], None] | None = None,
) -> str:
    """Score every method, write benchmark.md, benchmark.csv and figure.png into ``out``, and return the Markdown.

    Args:
        prepared: the data; patients without blood are left out.
        runs: the folder of the cross-validated runs.
        out: made where it is not there.
        wanted: the table's rows.
        cache: where scores and masks are kept; ``runs / "benchmark"`` by default.
        with_images: draw the figure over the CT. Without, it shows outlines alone, and may be published with no
            thought of the images' licence.
        fetch_weights: bring weights that are not here from the hub.
        where: as in ``ichseg.cohort.each``. Times per slice are taken in this process, when nothing else is scored.
        on_done: called with (patients done, of how many), for a progress display.

    """
    cache = runs / "benchmark" if cache is None else cache
    rows = [Row(method) for method in wanted]
    tasks: dict[str, list[Task]] = {}
    for row in rows:
        try:
            tasks[row.method.name] = list(_tasks(row, prepared, runs, cache, fetch_weights))
        except (InputError, ImportError) as error:
            row.reason = " ".join(str(error).split())
    waiting = [task for some in tasks.values() for task in some if not task.is_done()]
    total = sum(map(len, tasks.values()))
    for done, (i, found) in enumerate(cohort.each(score_patient, waiting, where=where), 1):
        if isinstance(found, cohort.Failure):
            row = next(row for row in rows if row.method.name == waiting[i].method)
            row.reason = row.reason or found.sentence
        if on_done is not None:
            on_done(total - len(waiting) + done, total)
    timed = list(native_slices(prepared))
    timed = timed[:: max(1, len(timed) // TIMED_SLICES)][:TIMED_SLICES]
    for row in rows:
        if not row.reason:
            _gather(row, tasks[row.method.name])
            row.seconds = time_slices(load_predictor(row.source), timed)
    text = markdown(rows, prepared)
    out.mkdir(parents=True, exist_ok=True)
    write_table(out / "benchmark.csv", rows)
    write_whole(out / "benchmark.md", text.encode())
    _draw(rows, prepared, out / "figure.png", with_images)
    return text


# --- Scoring, patient by patient --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """One model on one patient. Plain values, so that it can run on another machine."""

    method: str
    source: str
    """A catalogue name or the folder of a model."""
    patient: str
    data: Path
    folder: Path
    """Of the model's cached scores."""
    ray: bool = False

    def path(self, ending: str) -> Path:
        """One of the patient's three files: .npz, .csv, and .json, which is written last."""
        return self.folder / f"{self.patient}.{ending}"

    def is_done(self) -> bool:
        """Whether the scores are there, all of them."""
        return self.path("json").is_file()


def score_patient(task: Task) -> str:
    """Score a model on a patient's slices and keep scores and masks; return the patient."""
    prepared, predictor = Prepared(task.data), load_predictor(task.source)
    slices = list(native_slices(prepared, [task.patient]))
    masks: list[Mask] = []

    def keep(protocol: object, mask: Mask) -> None:
        if protocol == BENCHMARK_PROTOCOLS[0]:
            masks.append(mask)

    rows = score(predictor, slices, BENCHMARK_PROTOCOLS, on_mask=keep)
    small, truths = masks_as_paper(predictor, slices)
    arrays = {f"mask-{i}": mask for i, mask in enumerate(masks)}
    arrays |= {"small": np.array(small, bool), "truths": np.array(truths, bool)}
    task.folder.mkdir(parents=True, exist_ok=True)
    replace_file(task.path("npz"), lambda part: np.savez_compressed(part, **arrays))
    write_scores(task.path("csv"), rows)
    write_json(task.path("json"), {"versions": export.versions()})
    return task.patient


def _tasks(
    row: Row, prepared: Prepared, runs: Path, cache: Path, fetch_weights: bool
) -> Iterator[Task]:
    """A row's work, and its facts; raises InputError where the row cannot run."""
    method = row.method
    if method.run is None:
        if fetch_weights:
            fetch(method.name)
        is_here, reason = available(method.name) if method.name in CATALOGUE else (True, "")
        if not is_here:
            raise InputError(reason)
        whole = list(parts(prepared, method.name, None, None))
    else:
        whole = list(parts(prepared, None, runs / method.run, None))
    tested = [patient for _, _, patients in whole for patient in patients]
    if twice := {name for name in tested if tested.count(name) > 1}:
        raise InputError(
            f"Each patient is held out by one fold; '{method.run}' has {min(twice)} in two; give a run whose folds "
            "come from one split."
        )
    for _, source, patients in whole:
        predictor = load_predictor(source)
        row.source = row.source or source
        row.facts = facts(predictor, source, is_trained=method.run is not None)
        row.recipe = _recipe(Path(source))
        folder = cache / method.name / _key(predictor, prepared)
        for patient in patients:
            yield Task(method.name, source, patient, prepared.folder.resolve(), folder.resolve())


def _key(predictor: Predictor, prepared: Prepared) -> str:
    """A hash of all that a model's scores come from."""
    asked = {
        "format": CACHE_FORMAT,
        "protocols": [asdict(protocol) for protocol in BENCHMARK_PROTOCOLS],
    }
    return cache_key(predictor, prepared, code=("benchmark.py",), asked=asked)


def facts(predictor: Predictor, source: str, *, is_trained: bool) -> Facts:
    """Count a model's parameters as the paper does: an adapter's are added to the network's, and are what trains."""
    networks = [one for one in vars(predictor).values() if isinstance(one, torch.nn.Module)]
    if isinstance(predictor, NetworkPredictor):  # whose back end need not be torch
        folder = Path(source)
        networks = [load_base(base_of(folder) if folder.is_dir() else source)[0]]
    total = sum(value.numel() for one in networks for value in one.parameters())
    trainable = total if is_trained else 0
    adapter = Path(source) / "adapter_model.safetensors"
    if adapter.is_file():
        with safe_open(adapter, "numpy") as file:
            trainable = sum(int(np.prod(file.get_slice(name).get_shape())) for name in file.keys())  # noqa: SIM118
        total += trainable
    if is_trained and not networks:
        return Facts(predictor.takes_box, None, None)
    return Facts(predictor.takes_box, total, trainable)


def _recipe(folder: Path) -> str:
    """How a model was trained, in a few words, from its training.json; empty where there is none."""
    path = folder / "training.json"
    config = json.loads(path.read_text()).get("config", {}) if path.is_file() else {}
    if "trees" in config:
        return f"{config['trees']} trees"
    if "epochs" not in config:
        return ""
    told = f"{config['epochs']} passes, {config['batch'] * config.get('accumulate', 1)} examples a step"
    return f"r {config['rank']}, {config['loss']}, {told}" if "rank" in config else told


def time_slices(predictor: Predictor, slices: Sequence[NativeSlice]) -> dict[str, float]:
    """By protocol, the median seconds from a new slice and its boxes to the mask, the first run being left out."""
    predictor.predict(predictor.embed(slices[0].slice_hu), [slices[0].slice_box])
    rows = score(predictor, slices, BENCHMARK_PROTOCOLS)
    return {
        protocol.name: float(
            np.median([one.seconds for one in rows if one.protocol == protocol.name])
        )
        for protocol in BENCHMARK_PROTOCOLS
    }


def machine() -> str:
    """What times are taken on: processor, threads, library, accelerator, and whether it is busy with other work."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [
            line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        name = models[0].split(":", 1)[1].strip() if models else name
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    threads = torch.get_num_threads()
    busy = f", busy with other work (load {os.getloadavg()[0]:.0f})" if _is_busy() else ""
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}, torch {torch.__version__}, {where}{busy}"


def _is_busy() -> bool:
    """Whether more wants to run than there are cores for, this process included."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1)


def _gather(row: Row, tasks: Sequence[Task]) -> None:
    """Read a row's scores and masks from where they are kept."""
    for task in sorted(tasks, key=lambda task: task.patient):
        scores = read_scores(task.path("csv"))
        row.scores += scores
        first = [one for one in scores if one.protocol == BENCHMARK_PROTOCOLS[0].name]
        with np.load(task.path("npz")) as arrays:
            row.masks |= {(one.scan, one.slice): arrays[f"mask-{i}"] for i, one in enumerate(first)}
            row.small += list(zip(arrays["small"], arrays["truths"], strict=True))


# --- The table --------------------------------------------------------------------------------------------------


def difference(row: Row, reference: Row, protocol: str) -> Summary | None:
    """Dice less the reference's, slice by slice, over the slices that both have; None without any."""
    theirs = {(one.scan, one.slice): one.dice for one in reference.of(protocol)}
    mine = [one for one in row.of(protocol) if (one.scan, one.slice) in theirs]
    if not mine:
        return None
    return paired_difference(
        [one.dice for one in mine],
        [theirs[one.scan, one.slice] for one in mine],
        [one.patient for one in mine],
    )


def as_paper(row: Row) -> tuple[float, float]:
    """Dice and Jaccard at 256 x 256, batches of 8 slices pooled, in the patients' order for every method alike."""
    return batch_pooled([mask for mask, _ in row.small], [truth for _, truth in row.small])


_SLICE_SCORES = ("dice", "jaccard", "volume_difference")
_SCORES = (*_SLICE_SCORES, *(f"patient_{name}" for name in _SLICE_SCORES))


def records(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """The table as flat records, one a method and protocol; what is not known is None."""
    reference = next((row for row in rows if row.method.name == ZERO_SHOT), None)
    for row in rows:
        method, published = row.method, row.method.published
        base: dict[str, Any] = {
            "method": method.name,
            "title": method.title,
            "published_dice": published.test[0] if published else None,
            "published_jaccard": published.test[1] if published else None,
        }
        if row.reason or row.facts is None:
            yield {**base, "not_run_because": row.reason}
            continue
        summary = summary_of(row.scores)
        paper_dice, paper_jaccard = as_paper(row)
        for protocol in BENCHMARK_PROTOCOLS:
            record = {**base, "boxes": protocol.name}
            own = summary[protocol.name]
            record |= {"slices": own["dice"].n + own["dice"].n_left_out}
            record |= {"patients": len({one.patient for one in row.of(protocol.name)})}
            for name in _SCORES:
                record |= {f"{name}_mean": own[name].mean, f"{name}_sd": own[name].sd}
            gain = difference(row, reference, protocol.name) if reference else None
            if gain is not None and row is not reference:
                low, high = gain.interval
                record |= {"gain_dice": gain.mean, "gain_low": low, "gain_high": high}
            yield record | {
                "seconds_a_slice": row.seconds[protocol.name],
                "parameters": row.facts.parameters,
                "trainable": row.facts.trainable,
                "takes_box": row.facts.takes_box,
                "recipe": row.recipe,
                "dice_as_paper": paper_dice,
                "jaccard_as_paper": paper_jaccard,
                "timed_on": machine(),
            }


COLUMNS = (
    *("method", "title", "boxes", "not_run_because", "slices", "patients"),
    *(f"{name}_{end}" for name in _SCORES for end in ("mean", "sd")),
    *("gain_dice", "gain_low", "gain_high", "seconds_a_slice", "parameters", "trainable", "takes_box"),
    *("dice_as_paper", "jaccard_as_paper", "published_dice", "published_jaccard", "recipe", "timed_on"),
)  # fmt: skip


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """The table as CSV, one row a method and protocol, empty where there is nothing to say."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in records(rows):
        writer.writerow({key: cell(value) for key, value in record.items()})
    write_whole(path, text.getvalue().encode())


def markdown(rows: Sequence[Row], prepared: Prepared) -> str:
    """The table for people, what it means, and the paper's own figures beside it."""
    blood = {name for name, kind in prepared.patients.items() if kind != "none"}
    found = list(records(rows))
    missing = [one for one in found if "not_run_because" in one]
    partial = {
        one["title"]: one["patients"] for one in found if 0 < one.get("patients", 0) < len(blood)
    }
    lines = [
        "# The comparison",
        "",
        f"Every method on the same slices with blood of {prepared.dataset}: {len(blood)} patients. {OPTIMISTIC} "
        "Methods with a recipe, a forest or a network trained here are cross-validated: each patient is scored by a "
        "model that never saw it.",
        "",
        *_main_table(found),
        "",
        "Mean ± standard deviation. *A slice*: over slices; *a patient*: over patients, each by the mean of its slices "
        "(volume: by all its slices taken together). Volume difference is |predicted - true| / true. *Gain* is the "
        f"paired difference in Dice a slice to un-tuned {_title(rows, ZERO_SHOT)}, with its 95 % bootstrap interval "
        "over patients. *Boxes*: one around all blood of a slice, or one around each piece. *Takes a box*: where it "
        "says no, the method runs on the whole slice and its answer is cut to the boxes, which spares it every false "
        "alarm elsewhere. *Trained*: the share of the parameters that learned from hemorrhage here. *s a slice*: "
        f"median seconds from a new slice with its boxes to the mask, over {TIMED_SLICES} slices, on {machine()}.",
    ]
    if partial:
        told = (f"{title} {count}" for title, count in partial.items())
        lines += ["", f"Of the {len(blood)} patients not all are scored yet by: {', '.join(told)}."]
    if missing:
        lines += ["", "Not run here:", ""]
        lines += [f"- {one['title']}: {one['not_run_because']}" for one in missing]
    lines += ["", "## Beside the paper's own figures", "", *_paper_table(rows)]
    lines += ["", *_FIGURE_TEXT]
    return "\n".join(lines) + "\n"


_FIGURE_TEXT = (
    "## The figure",
    "",
    "![Rows of slices, columns of methods: the outline of each answer and of the truth, and their Dice](figure.png)",
    "",
    "Columns are methods; rows are slices that rules choose by their Dice with one method, which is named above the "
    "figure. " + figure.RULES_TEXT[0].upper() + figure.RULES_TEXT[1:],
    "",
    "It shows outlines alone, without the CT behind them, so that no image of the data set is in this repository; "
    "`--with-images` draws them over the CT, for one's own use.",
)


def _main_table(found: Sequence[Mapping[str, Any]]) -> list[str]:
    heads = ["method", "boxes", "Dice a slice", "Jaccard a slice", "volume difference a slice"]
    heads += ["Dice a patient", "Jaccard a patient", "volume difference a patient"]
    heads += ["gain in Dice", "s a slice", "parameters", "trained", "takes a box"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for one in found:
        if "not_run_because" in one:
            lines.append(f"| {one['title']} | not run here |" + " |" * (len(heads) - 2))
            continue
        cells = [one["title"], one["boxes"]]
        for name in _SCORES:
            cells.append(f"{one[f'{name}_mean']:.3f} ± {one[f'{name}_sd']:.3f}")
        gain = one.get("gain_dice")
        interval = "" if gain is None else f"{one['gain_low']:+.3f} to {one['gain_high']:+.3f}"
        cells.append("" if gain is None else f"{gain:+.3f} ({interval})")
        cells += [f"{one['seconds_a_slice']:.2g}", *_parameters(one)]
        lines.append("| " + " | ".join([*cells, "yes" if one["takes_box"] else "no, cut"]) + " |")
    return lines


def _parameters(one: Mapping[str, Any]) -> tuple[str, str]:
    """(Parameters, share trained on hemorrhage) as people read them."""
    total, trainable = one["parameters"], one["trainable"]
    if total is None:
        return "trees", "all"
    if total == 0:
        return "none", ""
    return f"{total:,}", f"{100 * trainable / total:.1f} %"


def _paper_table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "Guo, Law and Park (2024), Table I, on their own private scans: other patients, another scanner, other "
        "raters. The columns on the left are this project's, in the paper's own protocol (256 x 256, pieces under "
        "100 px dropped, one box a slice, batches of 8 slices pooled), on the data above. The two sides are not the "
        "same test, and their difference is not a gain or a loss.",
        "",
        "| method | Dice here | Jaccard here | Dice, paper's test | Jaccard, paper's test "
        "| Dice, paper's validation | Jaccard, paper's validation |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        here = as_paper(row) if not row.reason else (None, None)
        published = row.method.published or Published((np.nan, np.nan))
        values = [*here, *published.test, *(published.validation or (np.nan, np.nan))]
        cells = ["" if value is None or np.isnan(value) else f"{value:.4f}" for value in values]
        note = f" ({published.note})" if published.note else ""
        lines.append(f"| {row.method.title}{note} | " + " | ".join(cells) + " |")
    return lines


def _title(rows: Sequence[Row], name: str) -> str:
    return next((row.method.title for row in rows if row.method.name == name), name)


# --- The figure -------------------------------------------------------------------------------------------------


def _draw(rows: Sequence[Row], prepared: Prepared, path: Path, with_images: bool) -> None:
    """Figure 4: the slices that the rules choose, each by every method that ran."""
    ran = [row for row in rows if row.scores]
    by_name = {row.method.name: row for row in ran}
    chooser = by_name.get(SHIPPED) or by_name.get(ZERO_SHOT) or (ran[-1] if ran else None)
    if chooser is None:
        path.unlink(missing_ok=True)
        return
    first = BENCHMARK_PROTOCOLS[0].name
    patients = sorted({one.patient for one in chooser.scores})
    slices = {(one.scan_id, one.slice_index): one for one in native_slices(prepared, patients)}
    dice = {(one.scan, one.slice): one.dice for one in chooser.of(first)}
    cases = figure.choose([(slices[where], dice[where]) for where in sorted(dice)])
    columns = [
        figure.Column(
            row.method.title + ("" if row.facts and row.facts.takes_box else "\n(no box)"),
            row.masks,
            {(one.scan, one.slice): one.dice for one in row.of(first)},
        )
        for row in ran
    ]
    figure.draw(path, cases, columns, chosen_by=chooser.method.title, with_images=with_images)
