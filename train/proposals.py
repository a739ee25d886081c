"""The head that finds blood, trained on the adapter's own folds: python -m train proposals --data ... --out ...

Only the head is trained: the embeddings are those of the fold's own adapter, or of the un-tuned network, computed once
(``train.data.features``). A fold's folder holds what a baseline's does, and in ``model`` what ``load_proposals`` opens.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor, nn

from ichseg.methods.blood_finder import (
    ARCHITECTURE,
    BloodFinder,
    DetectionPredictor,
)
from ichseg.methods.catalogue import load_predictor
from ichseg.methods.detection import load_proposals
from ichseg.methods.frame import MODEL_SIZE
from ichseg.methods.network.detection_head import DetectionHead, across
from ichseg.methods.network.prompt_encoder import GRID_SIZE
from ichseg.methods.predictor import Predictor
from ichseg.methods.proposals import FindRule
from ichseg.methods.torch_backend import pick_device
from ichseg.methods.weights import sha256
from train.baselines import one_cycle
from train.data.examples import chunks
from train.data.features import Features, reflections
from train.data.files import replace_file, write_json
from train.data.split import check_leaks
from train.loop import Learner, RunFolder, autocast, progress_bar, train
from train.scores.scans import volume_of

#: Of the frame: what shrinks the soft Dice's answer to a slice without blood, and to a speck.
_SMOOTH_PX = 50.0
_BRAIN = 0.46


@dataclass(frozen=True)
class ProposalsConfig:
    """Everything that decides what a run trains."""

    width: int = 48
    dropout: float = 0.1
    epochs: int = 12
    batch: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    seed: int = 0
    positive_weight: float = 3.0
    """How much a pixel of blood counts in the cross-entropy."""
    bce_weight: float = 5.0
    """How much the cross-entropy counts beside the soft Dice."""
    clean_share: float = 1.0
    """Slices without blood in an epoch, for each with blood: half drawn at random, half those that fooled it most."""
    rotation_degrees: float = 10.0
    scale: float = 0.1
    """Embedding, images and mask are turned and scaled alike by up to so much."""
    cells: int = 48
    """They are seen through a window of so many of the embedding's 64 cells a side, laid anywhere: less to compute."""
    contrast: float = 0.1
    brightness: float = 0.03
    """The images' window is stretched and moved by up to so much of it: of 120 HU."""
    noise: float = 0.01

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ProposalsConfig:
        """The configuration that ``to_json`` saved."""
        return cls(**values)


def train_proposals(
    config: ProposalsConfig,
    features: Features,
    split: Mapping[str, Any],
    fold: int,
    out: Path,
    *,
    resume: bool = False,
    console: Console | None = None,
    device: str = "auto",
    stop_after_steps: int | None = None,
) -> Path:
    """Train a head on one fold and return the folder that ``load_proposals`` opens, ``out / "model"``.

    The last weights are kept and nothing is chosen by them, so that a fold's validation patients train, too.

    Args:
        config: how.
        features: complete, of the data that the split divides.
        split: as ``split_folds`` makes it; part ``fold`` says who is held out.
        fold: which part of the split.
        out: the run's folder.
        resume: go on from the folder's last checkpoint. Without it, a folder that has a run is refused.
        console: where progress is shown; standard error by default.
        device: "auto", "cpu" or "cuda".
        stop_after_steps: end early, as an interruption would (for tests of resuming).

    Raises:
        InputError: a folder in use, or whose run is of another configuration.

    """
    check_leaks(dict(split), features.prepared)
    part = part_of(split, fold)
    run = RunFolder(Path(out), config, features.prepared, part)
    run.check(resume=resume)
    run.describe()
    with progress_bar(console) as progress:
        learner = HeadLearner(config, features, run, device)
        train(learner, run, progress, stop_after_steps=stop_after_steps)
    return run.out / "model"


def part_of(split: Mapping[str, Any], fold: int) -> dict[str, list[str]]:
    """Who trains a fold's head, and who is held out: its validation patients train, too."""
    part = split["folds"][fold]
    train = sorted([*part["train"], *part["validation"]])
    return {"train": train, "validation": [], "test": list(part["test"])}


#: Of the slices without blood of those who train so many are embedded by a fold's own adapter, drawn once.
CLEAN_SLICES = 500


def rows_of(features: Features, part: Mapping[str, Sequence[str]]) -> npt.NDArray[np.bool_]:
    """The rows that a fold needs an embedding of: its blood, CLEAN_SLICES without, and all of whom it holds out."""
    trains, held_out = (np.isin(features.patients, list(part[name])) for name in ("train", "test"))
    drawn = np.random.default_rng(0).permutation(np.flatnonzero(trains & features.bloodless))
    wanted = held_out | (trains & features.marked)
    wanted[drawn[:CLEAN_SLICES]] = True
    return np.asarray(wanted)


#: Beside a fold's model: its probabilities of the patients that it held out.
HELD_OUT = "held-out.npz"


def predict_held_out(features: Features, out: Path, *, device: str = "auto") -> None:
    """What a finished fold's finder answers on the patients it never saw, into OUT/held-out.npz, unless it is there.

    By scan, float16 [z, 256, 256], with the SHA-256 of the weights as ``model`` and the seconds by scan as
    ``seconds SCAN``: the library's own answer, from embeddings that are kept.
    """
    model = out / "model"
    held_out = json.loads((out / "split.json").read_text(encoding="utf-8"))["test"]
    made = sha256(model / "model.safetensors")
    path = out / HELD_OUT
    if not held_out or (path.exists() and str(np.load(path)["model"]) == made):
        return
    finder = load_proposals(str(model), device)
    found: dict[str, npt.NDArray[Any]] = {"model": np.array(made)}
    for scan in features.prepared.scans_of(held_out):
        volume = volume_of(features.prepared, scan)
        started = time.perf_counter()
        found[scan.scan_id] = finder.probabilities(
            volume, features.embeddings(scan.scan_id, volume)
        ).astype(np.float16)
        found[f"seconds {scan.scan_id}"] = np.array(time.perf_counter() - started)
    replace_file(path, lambda part: _save(part, found))


def _save(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # each is an array


class HeadExamples:
    """What a head is trained on: rows of the features, slices with blood and slices without."""

    def __init__(
        self, config: ProposalsConfig, features: Features, patients: Sequence[str]
    ) -> None:
        self.config, self.features = config, features
        mine = np.isin(features.patients, list(patients))
        self.blood = np.flatnonzero(mine & features.marked)
        self.clean = np.flatnonzero(mine & features.bloodless & features.embedded)
        self.n_clean = min(round(config.clean_share * len(self.blood)), len(self.clean))
        #: How much each clean slice fooled the head when it was last seen; those not seen yet come first.
        self.fooled = torch.full((len(self.clean),), torch.inf)
        #: The clean slices of the epoch under way, and which epoch that is.
        self.drawn = torch.zeros(self.n_clean, dtype=torch.int64)
        self.drawn_for = torch.tensor(-1)

    def __len__(self) -> int:
        return len(self.blood) + self.n_clean

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """An epoch's rows in the order to train on them. Asked anew within the epoch, it is the same."""
        rng = np.random.default_rng([self.config.seed, epoch])
        if int(self.drawn_for) != epoch:
            self.drawn = torch.from_numpy(self._draw(rng))
            self.drawn_for = torch.tensor(epoch)
        rng = np.random.default_rng([self.config.seed, epoch, 1])
        rows = np.concatenate([self.blood, self.clean[self.drawn.numpy()]])
        return rng.permutation(rows).astype(np.int64)

    def _draw(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        hard = np.argsort(-self.fooled.numpy(), kind="stable")[: self.n_clean // 2]
        others = np.setdiff1d(np.arange(len(self.clean)), hard)
        drawn = rng.choice(others, self.n_clean - len(hard), replace=False)
        return np.concatenate([hard, drawn]).astype(np.int64)

    def remember(self, rows: npt.NDArray[np.int64], fooled: Tensor) -> None:
        """Keep how much each of some rows fooled the head; of others than clean slices nothing is kept."""
        places = np.searchsorted(self.clean, rows).clip(max=max(len(self.clean) - 1, 0))
        for place, row, value in zip(places, rows, fooled, strict=True):
            if len(self.clean) and self.clean[place] == row:
                self.fooled[place] = value


class HeadLearner(Learner):
    """A detection head on features that are there."""

    def __init__(
        self, config: ProposalsConfig, features: Features, run: RunFolder, device: str
    ) -> None:
        self.config, self.features, self.run = config, features, run
        self.device = pick_device(device)
        self.examples = self.rows = HeadExamples(config, features, run.part["train"])
        self.group, self.epochs = config.batch, config.epochs
        self._arrays = {name: features.array(name) for name in ("emb", "image", "inside", "mask")}
        self._reflections = reflections(self._arrays["image"])
        torch.manual_seed(config.seed)
        self.network = DetectionHead(config.width, config.dropout).to(
            self.device,
            memory_format=torch.channels_last,  # type: ignore[call-overload]  # torch takes it
        )
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )

    def learning_rate(self, step: int, total: int) -> float:
        return one_cycle(step, total, self.config.learning_rate)

    def learn(self, indices: npt.NDArray[np.int64], step: int, epoch: int) -> float:
        rng = np.random.default_rng([self.config.seed, epoch, step])
        torch.manual_seed(int(rng.integers(2**31)))  # of the dropout
        embeddings, images, affine, targets = self._augmented(indices, rng)
        self.network.train()
        with autocast(self.device):
            logits = self.network(embeddings, images, affine)
        losses = self._losses(logits.float(), targets)
        losses.mean().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.rows.remember(indices, losses.detach().cpu())
        return float(losses.detach().mean())

    def validation_losses(self, patients: Sequence[str]) -> list[float]:
        """The loss that is trained with, on slices with blood as they are."""
        rows = HeadExamples(self.config, self.features, patients).blood
        self.network.eval()
        losses: list[float] = []
        for some in chunks(rows, self.config.batch):
            embeddings, images, affine, targets = self._batch(some)
            losses += self._losses(self.network(embeddings, images, affine), targets).tolist()
        return losses

    def predictor(self) -> Predictor:
        name = "in-training"
        finder = BloodFinder(name, name, self.network, FindRule(), {}, self.device)
        return DetectionPredictor(finder, load_predictor(self.features.network))

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.network.named_parameters())

    def tensors(self) -> dict[str, Tensor]:
        rows = self.rows
        return {
            **{f"network.{name}": value for name, value in self.network.state_dict().items()},
            "rows.fooled": rows.fooled,
            "rows.drawn": rows.drawn,
            "rows.drawn_for": rows.drawn_for,
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        prefix = "network."
        self.network.load_state_dict(
            {name[len(prefix) :]: v for name, v in tensors.items() if name.startswith(prefix)}
        )
        for name in ("fooled", "drawn", "drawn_for"):
            setattr(self.rows, name, tensors[f"rows.{name}"])

    def finish(self) -> None:
        folder = self.run.out / "model"
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: value.half().cpu().contiguous()
            for name, value in self.network.state_dict().items()
        }
        replace_file(
            folder / "model.safetensors",
            lambda part: save_file(tensors, part, metadata={"format": "pt"}),
        )
        write_json(folder / "training.json", self.run.training())
        write_json(
            folder / "config.json",
            {
                "architecture": ARCHITECTURE,
                "width": self.config.width,
                "embedded_by": self.features.network,
                "rule": dataclasses.asdict(FindRule()),
            },
        )

    def _losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """One an example [n]: cross-entropy, and one minus the soft Dice."""
        weight = logits.new_tensor(self.config.positive_weight)
        bce = F.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=weight, reduction="none"
        )
        chance = logits.sigmoid()
        overlap = (chance * targets).sum(dim=(1, 2))
        total = chance.sum(dim=(1, 2)) + targets.sum(dim=(1, 2))
        dice = (2 * overlap + _SMOOTH_PX) / (total + _SMOOTH_PX)
        return self.config.bce_weight * bce.mean(dim=(1, 2)) + 1 - dice

    def _batch(self, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Embeddings, images, reflections and 0/1 targets of some rows, as they are."""
        made = [self._row(int(row)) for row in rows]
        embeddings, images, affine, targets = (
            torch.from_numpy(np.stack(some).astype(np.float32)).to(self.device)
            for some in zip(*made, strict=True)
        )
        return embeddings, images, affine, targets

    def _row(self, row: int) -> tuple[npt.NDArray[Any], ...]:
        """Embedding, images, reflection and mask."""
        arrays, features = self._arrays, self.features
        shown = np.stack(
            [arrays["image"][k] for k in (features.below[row], row, features.above[row])]
        )
        images = np.stack([*(shown.astype(np.float32) / 255), arrays["inside"][row]])
        return arrays["emb"][row], images, self._reflections[row], arrays["mask"][row]

    def _augmented(
        self, rows: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``_batch``, each row turned, scaled, mirrored, cut out and its brightness changed by chance."""
        embeddings, images, affine, targets = self._batch(rows)
        cells, pixels = self.config.cells, self.config.cells * MODEL_SIZE // GRID_SIZE
        moved = torch.from_numpy(np.stack([self._motion(rng) for _ in rows])).to(images)
        there = moved[:, :2]
        embeddings, images = across(embeddings, there, cells), across(images, there, pixels)
        targets = (across(targets[:, None], there, pixels)[:, 0] >= 0.5).float()
        last = images.new_tensor([0.0, 0.0, 1.0]).expand(len(rows), 1, 3)
        affine = (torch.linalg.inv(moved) @ torch.cat([affine, last], dim=1) @ moved)[:, :2]
        config, shape = self.config, (len(rows), 1, 1, 1)
        stretch = 1 + config.contrast * torch.from_numpy(rng.uniform(-1, 1, shape)).to(images)
        shift = config.brightness * torch.from_numpy(rng.uniform(-1, 1, shape)).to(images)
        noise = torch.randn_like(images[:, :3]) * config.noise
        seen = (images[:, :3] - _BRAIN) * stretch + _BRAIN + shift + noise
        images = torch.cat([seen.clip(0, 1), images[:, 3:]], dim=1)
        return embeddings, images, affine, targets

    def _motion(self, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """From a place of the moved frame to that of the frame as it is: [3, 3], lengths in [-1, 1]."""
        config = self.config
        turn = np.radians(rng.uniform(-config.rotation_degrees, config.rotation_degrees))
        size = 1 + rng.uniform(-config.scale, config.scale)
        matrix = np.eye(3)
        share = config.cells / GRID_SIZE
        matrix[:2, :2] = (
            size * share * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        )
        matrix[:2, 2] = rng.uniform(share - 1, 1 - share, size=2)
        if rng.random() < 0.5:
            matrix[:, 0] *= -1
        return matrix
