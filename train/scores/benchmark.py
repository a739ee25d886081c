"""Every method of the paper on the same cases: python -m train benchmark --data ... --runs ... --out docs/benchmark

A method without training is scored by its catalogue name on every patient with blood; a trained one as a
cross-validated run, each fold's model on the patients it never saw. Scores and masks are kept patient by patient under
a key of what they came from (weights, code of the predictor, data, protocols), so a run that was stopped goes on, and
a model that has changed is scored anew. A method that cannot run is a row that says why.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open

from ichseg import cohort
from ichseg.errors import InputError
from ichseg.files.records import versions
from ichseg.methods.adapter import base_of
from ichseg.methods.bases import load_base
from ichseg.methods.catalogue import CATALOGUE, available, fetch, load_predictor
from ichseg.methods.predictor import NetworkPredictor, Predictor
from train.data.cache import Prepared
from train.data.files import replace_file, write_json
from train.data.slices import NativeSlice, native_slices
from train.scores.cache import cache_key, read_rows, write_rows
from train.scores.evaluate import Score, masks_as_paper, score
from train.scores.protocols import PROTOCOLS
from train.scores.runs import parts

Mask = npt.NDArray[np.bool_]

#: One box per slice, around all blood, and one per connected component.
BENCHMARK_PROTOCOLS = (PROTOCOLS["slice"], PROTOCOLS["component"])

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
    """Median seconds per slice by protocol, as ``time_slices`` takes them."""
    recipe: str = ""
    reason: str = ""
    masks: dict[tuple[str, int], Mask] = field(default_factory=dict)
    """By scan and slice: the answer to one box around all blood."""
    small: list[tuple[Mask, Mask]] = field(default_factory=list)
    """(Prediction, reference) at 256 x 256, in the paper's own protocol, patient after patient."""

    def of(self, protocol: str) -> list[Score]:
        """The scores of one protocol."""
        return [row for row in self.scores if row.protocol == protocol]


def score_methods(
    prepared: Prepared,
    runs: Path,
    wanted: Sequence[Method],
    *,
    cache: Path,
    fetch_weights: bool = False,
    where: str | None = None,
    on_done: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Score every method on every patient with blood, and time it; arguments as ``train.write.benchmark.benchmark``."""
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
    return rows


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
    small, references = masks_as_paper(predictor, slices)
    arrays: dict[str, Any] = {f"mask-{i}": mask for i, mask in enumerate(masks)}
    arrays |= {"small": np.array(small, bool), "references": np.array(references, bool)}
    task.folder.mkdir(parents=True, exist_ok=True)
    replace_file(task.path("npz"), lambda part: np.savez_compressed(part, **arrays))
    write_rows(task.path("csv"), rows)
    write_json(task.path("json"), {"versions": versions()})
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
        whole = parts(prepared, model=method.name)
    else:
        whole = parts(prepared, run=runs / method.run)
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
    return cache_key(predictor, prepared, code=("scores/benchmark.py",), asked=asked)


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
    config = (
        json.loads(path.read_text(encoding="utf-8")).get("config", {}) if path.is_file() else {}
    )
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
            line
            for line in cpuinfo.read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
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
        scores = read_rows(task.path("csv"), Score)
        row.scores += scores
        first = [one for one in scores if one.protocol == BENCHMARK_PROTOCOLS[0].name]
        with np.load(task.path("npz")) as arrays:
            row.masks |= {(one.scan, one.slice): arrays[f"mask-{i}"] for i, one in enumerate(first)}
            row.small += list(zip(arrays["small"], arrays["references"], strict=True))
