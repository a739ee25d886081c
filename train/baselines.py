"""The methods that take no box, on the adapter's own folds: python -m train baseline --method unet --data ... --out ...

A fold's folder holds what a fine-tune's does (config, split, environment, metrics, curves), and in ``model`` what
``load_predictor`` opens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor, nn

from ichseg.methods.random_forest import FEATURES
from ichseg.methods.torch_backend import pick_device
from ichseg.methods.unets import UNet, UNetPredictor, build
from train import forest
from train.data.cache import Prepared
from train.data.example_config import ExampleConfig
from train.data.examples import TrainingSlices, chunks
from train.data.files import replace_file, write_json, write_table
from train.data.split import check_leaks
from train.loop import Learner, RunFolder, autocast, progress_bar, train
from train.loss import segmentation_loss
from train.recipes import FOREST, ForestConfig, NetworkConfig
from train.write.curves import draw_cutoffs


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
    stop_after_steps: int | None = None,
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
        stop_after_steps: end early, as an interruption would (for tests of resuming).

    Raises:
        InputError: a folder in use, or whose run is of another configuration.

    """
    check_leaks(dict(split), prepared)
    run = RunFolder(Path(out), config, prepared, split["folds"][fold])
    run.check(resume=resume)
    run.describe()
    with progress_bar(console) as progress:
        if isinstance(config, ForestConfig):
            _grow(config, run, progress)
        else:
            learner = NetworkLearner(config, run, device)
            train(learner, run, progress, stop_after_steps=stop_after_steps)
    return run.out / "model"


class NetworkLearner(Learner):
    """A network that is shown the whole slice and no box."""

    examples: TrainingSlices

    def __init__(self, config: NetworkConfig, run: RunFolder, device: str) -> None:
        self.config, self.run = config, run
        self.device = pick_device(device)
        self.examples = TrainingSlices(
            run.prepared, run.part["train"], config.examples, seed=config.seed
        )
        self.group, self.epochs = config.batch, config.epochs
        torch.manual_seed(config.seed)
        # Channels last is twice as fast on a CPU.
        self.network: UNet = build(config.architecture, config.channels).to(
            self.device,
            memory_format=torch.channels_last,  # type: ignore[call-overload]  # torch takes it
        )
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )

    def learning_rate(self, step: int, total: int) -> float:
        return one_cycle(step, total, self.config.learning_rate)

    def learn(self, indices: npt.NDArray[np.int64], step: int, epoch: int) -> float:
        images, targets = self._batch(self.examples, indices, epoch)
        self.network.train()
        with autocast(self.device):
            logits = self.network(images)
        loss = segmentation_loss(logits[:, 0].float(), targets, "bce+dice").mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    def validation_losses(self, patients: Sequence[str]) -> list[float]:
        """The loss that is trained with, on slices with blood as they are."""
        examples = TrainingSlices(self.run.prepared, patients, ExampleConfig())
        self.network.eval()
        losses: list[float] = []
        for indices in chunks(np.arange(len(examples)), self.config.batch):
            images, targets = self._batch(examples, indices, 0)
            logits = self.network(images)[:, 0]
            losses += segmentation_loss(logits, targets, "bce+dice").tolist()
        return losses

    def predictor(self) -> UNetPredictor:
        return UNetPredictor(
            self.network, "in-training", "in training", {}, device=self.device.type
        )

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.network.named_parameters())

    def tensors(self) -> dict[str, Tensor]:
        return {f"network.{name}": value for name, value in self.network.state_dict().items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        prefix = "network."
        self.network.load_state_dict(
            {name[len(prefix) :]: v for name, v in tensors.items() if name.startswith(prefix)}
        )

    def finish(self) -> None:
        # Half precision for all but what normalises: a variance may be too small or too large for it.
        tensors = {
            name: (value.half() if value.ndim > 1 else value).cpu().contiguous()
            for name, value in self.network.state_dict().items()
        }
        _write_model(
            self.run,
            {"architecture": self.config.architecture, "channels": list(self.config.channels)},
            lambda path: save_file(tensors, path, metadata={"format": "pt"}),
        )

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


def one_cycle(step: int, total: int, peak: float, warm_share: float = 0.25) -> float:
    """The learning rate of a step, from 0: up in a line to its peak, then down to 0 along a cosine (Smith 2018)."""
    warm = warm_share * total
    if step < warm:
        return peak * (step + 1) / (warm + 1)
    return peak * (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2


def _grow(config: ForestConfig, run: RunFolder, progress: Progress) -> None:
    """Grow the forest, choose its cutoff and write both; a few minutes, begun anew where it was interrupted."""
    patients = run.part["train"]
    pixels = forest.sample(config, run.prepared, patients, progress)
    dice = forest.inner_dice(config, run.prepared, patients, pixels, progress)
    cutoff = float(forest.CUTOFFS[int(np.argmax(dice))])
    grown = forest.grow(config, pixels.features, pixels.blood)
    pairs = zip(forest.CUTOFFS, dice, strict=True)
    write_table(run.out / "cutoffs.csv", [{"cutoff": float(c), "dice": float(d)} for c, d in pairs])
    _write_model(
        run,
        {"architecture": FOREST, "features": list(FEATURES), "cutoff": cutoff},
        grown.save,
    )
    draw_cutoffs(forest.CUTOFFS, dice, cutoff, run.out / "curves.png")


def _write_model(
    run: RunFolder, config: Mapping[str, Any], save_weights: Callable[[Path], object]
) -> None:
    """The three files of a model, each whole or not at all; its configuration, which makes it one, last."""
    folder = run.out / "model"
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "model.safetensors", save_weights)
    write_json(folder / "training.json", run.training())
    write_json(folder / "config.json", config)
