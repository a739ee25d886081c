"""The methods that take no box, on the adapter's own folds: python -m train baseline --method unet --data ... --out ...

A fold's folder holds what a fine-tune's does (config, split, environment, metrics, curves), and in ``model`` what
``load_predictor`` opens. Every random draw is a function of the seed, the epoch and the step, so that a run that was
interrupted gives the weights that an uninterrupted one would have given.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ichseg.errors import InputError
from ichseg.marks.box import box_from_mask
from ichseg.methods.backends import pick_device
from ichseg.methods.frame import SliceFrame
from ichseg.methods.random_forest import (
    FEATURES,
    Forest,
    RandomForestPredictor,
    frame_hu,
    inside_head,
    pixel_features,
)
from ichseg.methods.unets import ARCHITECTURES, CHANNELS, UNet, UNetPredictor, build
from train.dataset import (
    ExampleConfig,
    Prepared,
    TrainingSlices,
    check_leaks,
    chunks,
    native_slices,
    replace_file,
    write_json,
    write_table,
)
from train.evaluate import PROTOCOLS, score, summary_of
from train.finetune import draw_curves, environment, segmentation_loss

FOREST = "random-forest"
METHODS = (FOREST, *ARCHITECTURES)


@dataclass(frozen=True)
class NetworkConfig:
    """How a network without a prompt is trained. The same for all of them, and set before any was scored."""

    architecture: str
    channels: tuple[int, ...] = CHANNELS
    epochs: int = 12
    """Passes over the slices; the last epoch's weights are the run's, as too few patients validate to choose by."""
    batch: int = 8
    learning_rate: float = 3e-3
    """The peak of a one-cycle schedule."""
    weight_decay: float = 0.01
    seed: int = 0
    examples: ExampleConfig = field(
        default_factory=lambda: ExampleConfig(
            flip_left_right=True,
            rotation_degrees=15,
            hu_shift=4,
            hu_scale=0.1,
            negative_share=0.25,  # it sees no box, and must learn what a slice without blood looks like
        )
    )


@dataclass(frozen=True)
class ForestConfig:
    """How the forest is grown."""

    trees: int = 50
    leaves: int = 256
    """At most so many a tree, which keeps the file small."""
    pixels: int = 300
    """So many pixels with blood and as many without from each slice that has blood."""
    bloodless_every: int = 4
    """Of the slices without blood every fourth, with a third as many pixels."""
    inner_folds: int = 3
    """The cutoff is that of the best Dice on training patients that the trees of an inner fold have not seen."""
    seed: int = 0


def configuration(method: str, epochs: int | None = None) -> NetworkConfig | ForestConfig:
    """How a method is trained; ``epochs`` replaces a network's own number of passes over the data.

    Raises:
        InputError: a method that is none of METHODS.

    """
    if method == FOREST:
        return ForestConfig()
    if method not in METHODS:
        raise InputError(
            f"A method to train is one of {', '.join(METHODS)}; got '{method}'; choose one of them."
        )
    config = NetworkConfig(method)
    return config if epochs is None else dataclasses.replace(config, epochs=epochs)


def train_baseline(
    config: NetworkConfig | ForestConfig,
    prepared: Prepared,
    split: Mapping[str, Any],
    fold: int,
    out: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
    device: str = "auto",
    stop_after_epochs: int | None = None,
) -> Path:
    """Train one method on one fold and return the folder that ``load_predictor`` opens, ``out / "model"``.

    Args:
        config: what to train and how, as ``configuration`` has it.
        prepared: the data.
        split: as ``split_folds`` makes it; part ``fold`` says who trains, who validates and who is held out.
        fold: which part of the split.
        out: the run's folder.
        resume: go on from the folder's last checkpoint. Without it, a folder that has a run is refused.
        console: where progress is shown; standard error by default.
        device: "auto", "cpu" or "cuda".
        stop_after_epochs: end early, as an interruption would (for tests of resuming).

    Raises:
        InputError: a folder in use, or whose run is of another configuration.

    """
    check_leaks(dict(split), prepared)
    part = split["folds"][fold]
    _describe(out, config, prepared, part, resume)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
    ) as progress:
        if isinstance(config, ForestConfig):
            return _grow(config, prepared, part, out, progress)
        return _Run(config, prepared, part, out, device).train(progress, stop_after_epochs)


def _describe(
    out: Path,
    config: NetworkConfig | ForestConfig,
    prepared: Prepared,
    part: Mapping[str, Any],
    resume: bool,
) -> None:
    """Write what describes a run, or hold a resumed one to what it began with."""
    content = json.loads(json.dumps(dataclasses.asdict(config)))
    content["data_sha256"] = prepared.sha256
    if (out / "config.json").exists():
        if not resume:
            raise InputError(
                f"A run starts in a folder of its own; '{out.name}' has a run; add --resume or give another --out."
            )
        began = [json.loads((out / name).read_text()) for name in ("config.json", "split.json")]
        if began != [content, dict(part)]:
            raise InputError(
                f"A run is resumed with the configuration, data and split it began with; '{out.name}' has others; "
                "give the same options or another --out."
            )
        return
    write_json(out / "split.json", dict(part))
    write_json(out / "environment.json", environment(prepared))
    write_json(out / "config.json", content)


# --- Networks ---------------------------------------------------------------------------------------------------


class _Run:
    """One network's run: its state is saved after every epoch."""

    def __init__(
        self,
        config: NetworkConfig,
        prepared: Prepared,
        part: Mapping[str, Any],
        out: Path,
        device: str,
    ) -> None:
        self.config, self.prepared, self.part, self.out = config, prepared, part, out
        self.device = pick_device(device)
        self.examples = TrainingSlices(prepared, part["train"], config.examples, seed=config.seed)
        self.steps_an_epoch = math.ceil(len(self.examples) / config.batch)
        torch.manual_seed(config.seed)
        # Channels last is twice as fast on a CPU.
        self.network: UNet = build(config.architecture, config.channels).to(
            self.device, memory_format=torch.channels_last
        )
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.step_rows: list[dict[str, float]] = []
        self.epoch_rows: list[dict[str, float]] = []

    def train(self, progress: Progress, stop_after_epochs: int | None) -> Path:
        if (self.out / "last.safetensors").exists():
            self._load()
        total = self.config.epochs * self.steps_an_epoch
        task = progress.add_task(self.out.name, total=total, completed=len(self.step_rows))
        for epoch in range(len(self.epoch_rows), self.config.epochs):
            if epoch == stop_after_epochs:
                return self.out / "model"
            for indices in chunks(self.examples.order(epoch), self.config.batch):
                row = self._step(indices, epoch, total)
                progress.update(
                    task, advance=1, description=f"epoch {epoch + 1} loss {row['loss']:.3f}"
                )
            self._end_epoch(epoch)
        return self._finish()

    def _step(self, indices: npt.NDArray[np.int64], epoch: int, total: int) -> dict[str, float]:
        """One optimizer step on some examples."""
        started = time.monotonic()
        done = len(self.step_rows)
        rate = one_cycle(done, total, self.config.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        images, targets = self._batch(self.examples, indices, epoch)
        self.network.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=_has_bfloat16(self.device)):
            logits = self.network(images)
        loss = segmentation_loss(logits[:, 0].float(), targets, "bce+dice").mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        row = {
            "step": done + 1,
            "epoch": epoch + 1,
            "learning_rate": rate,
            "loss": float(loss.detach()),
            "seconds": time.monotonic() - started,
        }
        self.step_rows.append(row)
        return row

    def _batch(
        self, examples: TrainingSlices, indices: npt.NDArray[np.int64], epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Images [n, 1, 256, 256] and 0/1 targets [n, 256, 256]."""
        made = [examples.example(int(index), epoch) for index in indices]
        images = torch.from_numpy(np.stack([example.image for example in made]))[:, None]
        targets = torch.from_numpy(np.stack([example.target for example in made])).float()
        return (
            images.to(self.device, memory_format=torch.channels_last),
            targets.to(self.device),
        )

    def _end_epoch(self, epoch: int) -> None:
        """Validate, log and save."""
        mine = self.step_rows[-self.steps_an_epoch :]
        self.epoch_rows.append(
            {
                "epoch": epoch + 1,
                "train_loss": float(np.mean([row["loss"] for row in mine])),
                **self._validate(),
                "seconds": sum(row["seconds"] for row in mine),
            }
        )
        write_table(self.out / "steps.csv", self.step_rows)
        write_table(self.out / "epochs.csv", self.epoch_rows)
        self._save()

    @torch.inference_mode()
    def _validate(self) -> dict[str, float]:
        """The loss on slices with blood, and Dice and Jaccard at native size of what the box cuts out."""
        if not self.part["validation"]:
            return dict.fromkeys(
                ("validation_loss", "validation_dice", "validation_jaccard"), math.nan
            )
        examples = TrainingSlices(self.prepared, self.part["validation"], ExampleConfig())
        self.network.eval()
        losses: list[float] = []
        for indices in chunks(np.arange(len(examples)), self.config.batch):
            images, targets = self._batch(examples, indices, 0)
            logits = self.network(images)[:, 0]
            losses += segmentation_loss(logits, targets, "bce+dice").tolist()
        predictor = UNetPredictor(
            self.network, "in-training", "in training", {}, device=self.device.type
        )
        rows = score(
            predictor, native_slices(self.prepared, self.part["validation"]), [PROTOCOLS["slice"]]
        )
        summary = summary_of(rows)["slice"]
        return {
            "validation_loss": float(np.mean(losses)),
            "validation_dice": summary["dice"].mean,
            "validation_jaccard": summary["jaccard"].mean,
        }

    def _save(self) -> None:
        """Write the checkpoint, whole or not at all: weights, optimizer and metrics, without a pickle."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = value
        metrics = json.dumps({"steps": self.step_rows, "epochs": self.epoch_rows})
        kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        path = self.out / "last.safetensors"
        replace_file(path, lambda part: save_file(kept, part, metadata={"metrics": metrics}))

    def _load(self) -> None:
        with safe_open(self.out / "last.safetensors", framework="pt") as file:
            metrics = json.loads(file.metadata()["metrics"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        self.step_rows, self.epoch_rows = metrics["steps"], metrics["epochs"]
        prefix = "network."
        self.network.load_state_dict(
            {name[len(prefix) :]: v for name, v in tensors.items() if name.startswith(prefix)}
        )
        for name, parameter in self.network.named_parameters():
            state = {
                key: tensors[f"optimizer.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
            }
            self.optimizer.state[parameter] = {
                key: value if key == "step" else torch.empty_like(parameter).copy_(value)
                for key, value in state.items()
            }

    def _finish(self) -> Path:
        """Write the model and, last of all, the curves."""
        # Half precision for all but what normalises: a variance may be too small or too large for it.
        tensors = {
            name: (value.half() if value.ndim > 1 else value).cpu().contiguous()
            for name, value in self.network.state_dict().items()
        }
        model = self.out / "model"
        content = {
            "architecture": self.config.architecture,
            "channels": list(self.config.channels),
        }
        _write_model(
            model,
            content,
            lambda path: save_file(tensors, path, metadata={"format": "pt"}),
            _training(self.config, self.prepared, self.part, self.out),
        )
        draw_curves(self.out)
        return model


def one_cycle(step: int, total: int, peak: float, warm_share: float = 0.25) -> float:
    """The learning rate of a step, from 0: up in a line to its peak, then down to 0 along a cosine (Smith 2018)."""
    warm = warm_share * total
    if step < warm:
        return peak * (step + 1) / (warm + 1)
    return peak * (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2


def _has_bfloat16(device: torch.device) -> bool:
    return device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)


# --- The forest -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Pixels:
    """Pixels to learn from: features [n, f], blood or not [n], and each one's patient [n]."""

    features: npt.NDArray[np.float32]
    blood: npt.NDArray[np.bool_]
    patient: npt.NDArray[np.str_]


#: The cutoffs that are tried.
CUTOFFS = np.round(np.arange(0.05, 1.0, 0.05), 2)


def _grow(
    config: ForestConfig,
    prepared: Prepared,
    part: Mapping[str, Any],
    out: Path,
    progress: Progress,
) -> Path:
    """Grow the forest, choose its cutoff and write both; a few minutes, begun anew where it was interrupted."""
    pixels = _sample(config, prepared, part["train"], progress)
    dice = _inner_dice(config, prepared, part["train"], pixels, progress)
    cutoff = float(CUTOFFS[int(np.argmax(dice))])
    forest = grow_forest(config, pixels.features, pixels.blood)
    write_table(
        out / "cutoffs.csv",
        [{"cutoff": float(c), "dice": float(d)} for c, d in zip(CUTOFFS, dice, strict=True)],
    )
    _write_model(
        out / "model",
        {"architecture": FOREST, "features": list(FEATURES), "cutoff": cutoff},
        forest.save,
        _training(config, prepared, part, out),
    )
    _draw_cutoffs(dice, cutoff, out / "curves.png")
    return out / "model"


def grow_forest(
    config: ForestConfig, features: npt.NDArray[np.float32], blood: npt.NDArray[np.bool_]
) -> Forest:
    """A forest of scikit-learn's on rows of features [n, f] with their labels [n], as arrays."""
    from sklearn.ensemble import RandomForestClassifier

    fitted = RandomForestClassifier(
        config.trees,
        max_leaf_nodes=config.leaves,
        max_features="sqrt",
        random_state=config.seed,
        n_jobs=1,
    ).fit(features, blood)
    return forest_of(fitted)


def forest_of(fitted: Any) -> Forest:
    """The trees of a fitted RandomForestClassifier of two classes, False and True."""
    trees = [estimator.tree_ for estimator in fitted.estimators_]
    roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])], dtype=np.int32)
    thresholds = np.concatenate([tree.threshold for tree in trees])
    # Rounded down, so that a float32 is at most this one where it was at most the float64.
    low = thresholds.astype(np.float32)
    low = np.where(low > thresholds, np.nextafter(low, np.float32(-np.inf)), low)
    pairs = list(zip(trees, roots, strict=True))
    return Forest(
        feature=np.maximum(np.concatenate([tree.feature for tree in trees]), -1).astype(np.int16),
        threshold=low,
        left=np.concatenate([tree.children_left + root for tree, root in pairs]).astype(np.int32),
        right=np.concatenate([tree.children_right + root for tree, root in pairs]).astype(np.int32),
        value=np.concatenate([tree.value[:, 0, 1] for tree in trees]).astype(np.float32),
        roots=roots,
    )


def _sample(
    config: ForestConfig, prepared: Prepared, patients: Sequence[str], progress: Progress
) -> _Pixels:
    """Pixels of the training patients' slices, in the 256 x 256 frame."""
    chosen = []
    for scan in prepared.scans_of(patients):
        bloodless = [k for k, entry in enumerate(scan.slices) if entry.is_bloodless]
        chosen += [(scan, k) for k, entry in enumerate(scan.slices) if entry.mask_row is not None]
        chosen += [(scan, k) for k in bloodless[:: config.bloodless_every]]
    task = progress.add_task("pixels", total=len(chosen))
    features, blood, patient = [], [], []
    for number, (scan, k) in enumerate(chosen):
        frame = SliceFrame((scan.shape_zyx[1], scan.shape_zyx[2]))
        hu = frame_hu(frame, prepared.slice_hu(scan.scan_id, k))
        candidates, known = pixel_features(hu, inside_head(hu))
        truth = frame.mask(prepared.mask(scan.scan_id, k))[candidates]
        rng = np.random.default_rng([config.seed, number])
        most = config.pixels if scan.slices[k].mask_row is not None else config.pixels // 3
        rows = np.concatenate(
            [rng.permutation(np.flatnonzero(truth == label))[:most] for label in (False, True)]
        )
        features.append(known[rows])
        blood.append(truth[rows])
        patient += [scan.patient_id] * len(rows)
        progress.advance(task)
    return _Pixels(np.concatenate(features), np.concatenate(blood), np.array(patient))


def _inner_dice(
    config: ForestConfig,
    prepared: Prepared,
    patients: Sequence[str],
    pixels: _Pixels,
    progress: Progress,
) -> npt.NDArray[np.float64]:
    """The mean Dice at each of CUTOFFS on the training patients' slices, each by trees that know none of that patient.

    In the 256 x 256 frame, cut to a box around the truth, as the method is used.
    """
    with_blood = [name for name in patients if prepared.patients[name] != "none"]
    total = sum(1 for _ in _truths(prepared, with_blood))
    task = progress.add_task("cutoff", total=total)
    rows = []
    for held_out in (
        with_blood[start :: config.inner_folds] for start in range(config.inner_folds)
    ):
        rest = ~np.isin(pixels.patient, held_out)
        if not held_out or not pixels.blood[rest].any():
            continue
        forest = grow_forest(config, pixels.features[rest], pixels.blood[rest])
        predictor = RandomForestPredictor(forest, 0.5, FOREST, FOREST, {})
        for hu, truth in _truths(prepared, held_out):
            box = box_from_mask(truth, 3.0)
            assert box is not None
            chance, inside = predictor.chance(hu)[box.slices()], truth[box.slices()]
            overlap = np.array([np.count_nonzero(inside & (chance > c)) for c in CUTOFFS])
            found = np.array([np.count_nonzero(chance > c) for c in CUTOFFS])
            rows.append(2 * overlap / (found + np.count_nonzero(inside)))
            progress.advance(task)
    if not rows:  # one patient alone has blood: nobody is left to choose with
        return -np.abs(CUTOFFS - 0.5)
    mean: npt.NDArray[np.float64] = np.mean(rows, axis=0)
    return mean


def _truths(
    prepared: Prepared, patients: Sequence[str]
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]]:
    """HU and truth of each slice with blood, in the 256 x 256 frame; where too little is left there, none."""
    for scan in prepared.scans_of(patients):
        frame = SliceFrame((scan.shape_zyx[1], scan.shape_zyx[2]))
        for k, entry in enumerate(scan.slices):
            if entry.mask_row is None:
                continue
            truth = frame.mask(prepared.mask(scan.scan_id, k))
            if truth.any():
                yield frame_hu(frame, prepared.slice_hu(scan.scan_id, k)), truth


def _draw_cutoffs(dice: npt.NDArray[np.float64], cutoff: float, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(CUTOFFS, dice, marker="o")
    axes.axvline(cutoff, color="grey", linestyle=":")
    axes.set_xlabel("cutoff of the chance of blood")
    axes.set_ylabel("Dice, inner folds")
    replace_file(path, lambda part: figure.savefig(part, dpi=120))


# --- What both write --------------------------------------------------------------------------------------------


def _training(
    config: NetworkConfig | ForestConfig, prepared: Prepared, part: Mapping[str, Any], out: Path
) -> dict[str, Any]:
    """What a model was made from and with."""
    return {
        "config": dataclasses.asdict(config),
        "split": dict(part),
        "data": {"dataset": prepared.dataset, "sha256": prepared.sha256},
        "environment": json.loads((out / "environment.json").read_text()),
    }


def _write_model(
    folder: Path,
    config: Mapping[str, Any],
    save_weights: Callable[[Path], object],
    training: Mapping[str, Any],
) -> None:
    """The three files of a model, each whole or not at all; its configuration, which makes it one, last."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "model.safetensors", save_weights)
    write_json(folder / "training.json", training)
    write_json(folder / "config.json", config)
