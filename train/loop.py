"""The one training loop: an adapter and a network without a prompt go through it alike.

A ``Learner`` knows its network, one step and what it leaves behind. The loop knows the run's folder, the order of the
examples, the learning rate's clock, validation, checkpoints and progress. Every random draw is a function of the seed,
the epoch and the step, so that a run that was interrupted gives the weights that an uninterrupted one would have given.
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import ichseg
from ichseg.errors import InputError
from ichseg.methods.predictor import Predictor
from ichseg.methods.torch_backend import computes_in_bfloat16
from train.data.cache import Prepared
from train.data.files import replace_file, write_json, write_table
from train.data.slices import native_slices
from train.scores.evaluate import score, summary_of
from train.scores.protocols import PROTOCOLS
from train.write.curves import draw_curves

#: A checkpoint at least this often, so that an interruption costs little.
SAVE_EVERY_S = 60.0
CHECKPOINT = "last.safetensors"
VALIDATION = ("validation_loss", "validation_dice", "validation_jaccard")


# The run's folder


class Config(Protocol):
    """What a run is configured by: a dataclass that JSON gives back as it was."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Any:
        """The configuration that ``to_json`` saved."""


@dataclass(frozen=True)
class RunFolder:
    """Where a run is kept, and what it began with: config.json, split.json, environment.json."""

    out: Path
    config: Config
    prepared: Prepared
    part: Mapping[str, Any]
    """A part of the split: who trains, who validates, who is held out."""

    def check(self, *, resume: bool) -> None:
        """Hold a resumed run to what it began with.

        Raises:
            InputError: a folder in use without ``resume``; a run of another configuration, of other data or patients.

        """
        if not (self.out / "config.json").exists():
            return
        if not resume:
            raise InputError(
                f"A run starts in a folder of its own; '{self.out.name}' has a run; add --resume or give another "
                "--out."
            )
        config, part, began = (
            json.loads((self.out / name).read_text(encoding="utf-8"))
            for name in ("config.json", "split.json", "environment.json")
        )
        config.pop("data_sha256", None)  # in the networks' runs of before 0.2.0
        try:
            same = type(self.config).from_json(config) == self.config
        except TypeError:  # fields of another version
            same = False
        if not same:
            raise InputError(
                f"A run is resumed with the configuration it began with; '{self.out.name}' has another; "
                "give the same options or another --out."
            )
        if began["data_sha256"] != self.prepared.sha256 or part != dict(self.part):
            raise InputError(
                f"A run is resumed on the data and the split it began with; '{self.out.name}' has others; "
                "give the same --data and --fold or another --out."
            )

    def describe(self) -> None:
        """Write what a new run begins with; config.json, which makes it a run, last."""
        if not (self.out / "config.json").exists():
            write_json(self.out / "split.json", dict(self.part))
            write_json(self.out / "environment.json", environment(self.prepared))
            write_json(self.out / "config.json", self.config.to_json())

    def training(self) -> dict[str, Any]:
        """What a model was made from and with, for its training.json."""
        return {
            "config": self.config.to_json(),
            "split": dict(self.part),
            "data": {"dataset": self.prepared.dataset, "sha256": self.prepared.sha256},
            "environment": environment(self.prepared),
        }


def autocast(device: torch.device) -> torch.autocast:
    """Mixed precision, where the device computes in bfloat16; else float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=computes_in_bfloat16(device))


def environment(prepared: Prepared) -> dict[str, Any]:
    """What a run was made with: versions, hardware, the code's commit and the data's hash."""
    import peft

    return {
        "ichseg": ichseg.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "peft": peft.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "cpu_bfloat16": computes_in_bfloat16(torch.device("cpu")),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": _commit(),
        "data_sha256": prepared.sha256,
    }


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


# What is trained


class Examples(Protocol):
    """What is trained on."""

    def __len__(self) -> int:
        """How many make an epoch."""

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """The numbers of an epoch's examples, in the order to train on them."""


class Learner(ABC):
    """What differs from one training to another."""

    examples: Examples
    group: int
    """Examples an optimizer step, on all devices together."""
    epochs: int
    optimizer: torch.optim.Optimizer
    protocol: str = "slice"
    """How the validation patients' slices are prompted (PROTOCOLS)."""
    select: Literal["best", "last"] = "last"
    """After which epochs ``keep`` is called: each that is the best so far, or every one."""
    is_main: bool = True
    """Whether this process, of several that train together, is the one that validates and writes."""

    @abstractmethod
    def learning_rate(self, step: int, total: int) -> float:
        """Of a step, from 0, of so many."""

    @abstractmethod
    def learn(self, indices: npt.NDArray[np.int64], step: int, epoch: int) -> float:
        """One optimizer step on some examples; return their loss."""

    @abstractmethod
    def validation_losses(self, patients: Sequence[str]) -> list[float]:
        """The loss of each example of some patients, in the network's own frame."""

    @abstractmethod
    def predictor(self) -> Predictor:
        """The application's own predictor around the network, so that what is scored is what users get."""

    @abstractmethod
    def parameters(self) -> dict[str, nn.Parameter]:
        """What the optimizer changes, by name."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of the network, by name."""

    @abstractmethod
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what ``tensors`` gave."""

    def keep(self, epoch: int) -> None:  # noqa: B027 - not every learner has it to do
        """Write the weights after an epoch, from 1, that ``select`` chooses."""

    def finish(self) -> None:  # noqa: B027 - not every learner has it to do
        """Write the result of a run whose last epoch is done."""

    def scaler(self) -> Any:
        """What scales the loss in float16, whose state goes with the checkpoint; None elsewhere."""
        return None

    def wait(self) -> None:  # noqa: B027 - one process alone has nobody to wait for
        """Wait until every process that trains with this one has come as far."""


# The loop


@contextmanager
def progress_bar(console: Console | None, *, shown: bool = True) -> Iterator[Progress]:
    """A bar of steps on a console, standard error by default."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
        disable=not shown,
    ) as progress:
        yield progress


def train(
    learner: Learner, run: RunFolder, progress: Progress, *, stop_after_steps: int | None = None
) -> bool:
    """Train from the folder's last checkpoint, or from the start, to the end; return whether it came there.

    Writes steps.csv and epochs.csv, a checkpoint after each epoch and every SAVE_EVERY_S, and, last of all, curves.png:
    a folder that has it is finished. ``stop_after_steps`` ends early, as an interruption would (for tests).
    """
    loop = _Loop(learner, run)
    loop.load()
    task = progress.add_task(run.out.name, total=loop.total, completed=loop.step)
    while loop.step < loop.total:
        if stop_after_steps is not None and loop.step >= stop_after_steps:
            return False
        loss = loop.train_step()
        told = f"epoch {loop.epoch + 1}/{learner.epochs} loss {loss:.4f}"
        progress.update(task, completed=loop.step, description=told)
        if loop.step % loop.steps_an_epoch == 0:
            loop.end_epoch()
        elif time.monotonic() - loop.saved_at > SAVE_EVERY_S:
            loop.save()
    loop.finish()
    return True


class _Loop:
    """One run's position. A step trains; an epoch validates, logs and saves."""

    def __init__(self, learner: Learner, run: RunFolder) -> None:
        self.learner, self.run = learner, run
        self.steps_an_epoch = math.ceil(len(learner.examples) / learner.group)
        self.total = self.steps_an_epoch * learner.epochs
        self.step = 0
        self.best = -math.inf
        self.step_rows: list[dict[str, float]] = []
        self.epoch_rows: list[dict[str, float]] = []
        self.saved_at = time.monotonic()

    @property
    def epoch(self) -> int:
        """The epoch that the next step belongs to, from 0."""
        return min(self.step // self.steps_an_epoch, self.learner.epochs - 1)

    def train_step(self) -> float:
        """One optimizer step on the next examples of the epoch's order; return the loss."""
        started = time.monotonic()
        group = self.learner.group
        epoch, place = divmod(self.step, self.steps_an_epoch)
        indices = self.learner.examples.order(epoch)[place * group : (place + 1) * group]
        rate = self.learner.learning_rate(self.step, self.total)
        for parameters in self.learner.optimizer.param_groups:
            parameters["lr"] = rate
        loss = self.learner.learn(indices, self.step, epoch)
        self.step += 1
        self.step_rows.append(
            {
                "step": self.step,
                "epoch": epoch + 1,
                "learning_rate": rate,
                "loss": loss,
                "seconds": time.monotonic() - started,
            }
        )
        return loss

    def end_epoch(self) -> None:
        """Validate, log, keep the weights where they are chosen, and save."""
        if self.learner.is_main:
            validation = self._validate()
            mine = self.step_rows[-self.steps_an_epoch :]
            epoch = self.step // self.steps_an_epoch
            self.epoch_rows.append(
                {
                    "epoch": epoch,
                    "train_loss": float(np.mean([row["loss"] for row in mine])),
                    **validation,
                    "seconds": sum(row["seconds"] for row in mine),
                }
            )
            merit = (validation["validation_dice"] + validation["validation_jaccard"]) / 2
            if self.learner.select == "last" or math.isnan(merit) or merit > self.best:
                self.best = merit
                self.learner.keep(epoch)
            self._log()
        self.save()
        self.learner.wait()

    @torch.inference_mode()
    def _validate(self) -> dict[str, float]:
        """Loss in the network's own frame, and Dice and Jaccard at native size through the predictor."""
        patients = self.run.part["validation"]
        if not patients:
            return dict.fromkeys(VALIDATION, math.nan)
        losses = self.learner.validation_losses(patients)
        protocol = PROTOCOLS[self.learner.protocol]
        slices = native_slices(self.run.prepared, patients)
        summary = summary_of(score(self.learner.predictor(), slices, [protocol]))[protocol.name]
        found = (float(np.mean(losses)), summary["dice"].mean, summary["jaccard"].mean)
        return dict(zip(VALIDATION, found, strict=True))

    def save(self) -> None:
        """Write the checkpoint, whole or not at all: weights, optimizer and position, without a pickle."""
        self.saved_at = time.monotonic()
        if not self.learner.is_main:
            return
        tensors = self.learner.tensors()
        for name, parameter in self.learner.parameters().items():
            for key, value in self.learner.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        scaler = self.learner.scaler()
        position = {
            "step": self.step,
            "best": self.best,
            "steps": self.step_rows,
            "epochs": self.epoch_rows,
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        told = {"position": json.dumps(position)}
        replace_file(self.run.out / CHECKPOINT, lambda part: save_file(kept, part, metadata=told))

    def load(self) -> None:
        """Go to where the last checkpoint was written, if there is one."""
        path = self.run.out / CHECKPOINT
        if not path.exists():
            return
        with safe_open(path, framework="pt") as file:
            position = _position(file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        self.learner.restore(tensors)
        for name, parameter in self.learner.parameters().items():
            self.learner.optimizer.state[parameter] = {
                key: value if key == "step" else torch.empty_like(parameter).copy_(value)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if (value := tensors.get(f"optimizer.{key}.{name}")) is not None
            }
        self.step, self.best = position["step"], position["best"]
        self.step_rows, self.epoch_rows = position["steps"], position["epochs"]
        scaler = self.learner.scaler()
        if position["scaler"] and scaler is not None:
            scaler.load_state_dict(position["scaler"])

    def finish(self) -> None:
        """Write the result and, last of all, the curves."""
        if self.learner.is_main:
            self._log()
            self.learner.finish()
            draw_curves(self.run.out)
        self.learner.wait()

    def _log(self) -> None:
        write_table(self.run.out / "steps.csv", self.step_rows)
        write_table(self.run.out / "epochs.csv", self.epoch_rows)


def _position(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Where a checkpoint was written; those of the networks of before 0.2.0 hold their metrics alone."""
    if "metrics" in metadata:
        metrics = json.loads(metadata["metrics"])
        return {"step": len(metrics["steps"]), "best": -math.inf, "scaler": None, **metrics}
    position: dict[str, Any] = json.loads(metadata["position"])
    return position
