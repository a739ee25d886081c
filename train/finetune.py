"""The fine-tune: one flat loop over examples, for any hardware that Hugging Face accelerate drives.

``FinetuneConfig()`` is the recipe of Guo, Law, Park 2024. Every random draw is a function of the seed, the epoch
and the step, so that a run that was interrupted gives the weights that an uninterrupted one would have given.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import ichseg
from ichseg.errors import InputError
from ichseg.methods.backends import TorchBackend
from ichseg.methods.catalogue import load_base
from ichseg.methods.network import LORA_TARGETS, BoxNetwork
from ichseg.methods.predictor import CROP_SIDES, NetworkPredictor
from train.dataset import (
    Example,
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

if TYPE_CHECKING:
    from accelerate import Accelerator
    from peft import PeftModel


@dataclass(frozen=True)
class FinetuneConfig:
    """Everything that decides what a run trains; as it stands, the paper's recipe.

    An adapter of rank r adds (alpha / sqrt(r)) B A to the weights of each target layer ("rank-stabilised",
    Kalajdzievski 2023), alpha / r without ``rslora``.
    """

    base: Literal["litemedsam", "sam", "medsam"] = "litemedsam"
    """The network that is adapted: the paper's, at 256 x 256, or one that it could not afford, at 1024 x 1024."""
    rank: int = 64
    alpha: int = 128
    dropout: float = 0.1
    rslora: bool = True
    targets: tuple[str, ...] = LORA_TARGETS
    loss: Literal["bce", "bce+dice"] = "bce"
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    epochs: int = 24
    batch: int = 8
    """Examples a gradient, on each device."""
    accumulate: int = 8
    """Gradients an optimizer step."""
    microbatch: int = 4
    """Examples that are in memory at once; changes the result by rounding alone."""
    seed: int = 0
    select: Literal["best", "last"] = "best"
    """Which epoch's adapter is the run's: the best on the validation patients (by the mean of Dice and Jaccard), or the
    last, for when too few patients are set aside to choose by."""
    second_look: bool = False
    """Whether the adapter is meant for, and scored with, a second look at a crop around each box."""
    crop_sides: float = CROP_SIDES
    """The second look's side in units of the box's longer side."""
    examples: ExampleConfig = field(default_factory=ExampleConfig)

    @property
    def scaling(self) -> float:
        """The factor on B A."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FinetuneConfig:
        """The configuration that ``to_json`` saved."""
        values = {name: _tuple(value) for name, value in values.items()}
        examples = {name: _tuple(value) for name, value in values.pop("examples", {}).items()}
        return cls(**values, examples=ExampleConfig(**examples))

    def with_settings(self, settings: Sequence[str]) -> FinetuneConfig:
        """A copy with some fields set, each given as "field=value" or "examples.field=value".

        >>> FinetuneConfig().with_settings(["rank=8", "examples.box_per=piece"]).examples.box_per
        'piece'
        """
        config = self
        for setting in settings:
            name, _, text = setting.partition("=")
            owner: Any = config
            short = name.removeprefix("examples.")
            if name.startswith("examples."):
                owner = config.examples
            known = [item.name for item in dataclasses.fields(owner) if item.name != "examples"]
            if short not in known or not text:
                raise InputError(
                    f"A setting is field=value with a field of {', '.join(known)}; got '{setting}'; correct it."
                )
            changed = dataclasses.replace(owner, **{short: _parse(text)})
            config = changed if owner is config else dataclasses.replace(config, examples=changed)
        return config


#: What ``--recipe`` names; what each gave is in EXPERIMENTS.md.
RECIPES: dict[str, FinetuneConfig] = {
    # As published: 64 examples an optimizer step, 24 epochs.
    "paper": FinetuneConfig(),
    # The same for a small data set on a CPU: 8 examples a step, 3 epochs.
    "paper-short": FinetuneConfig(accumulate=1, epochs=3),
    # Crops around a box a piece at native resolution, and as much variety as the data allow.
    "crops": FinetuneConfig(
        loss="bce+dice",
        accumulate=1,
        epochs=3,
        select="last",
        second_look=True,
        examples=ExampleConfig(
            box_per="both",
            box_jitter_px=6,
            flip_left_right=True,
            rotation_degrees=15,
            hu_shift=4,
            hu_scale=0.1,
            noise_hu=3,
            blur_px=1,
            crop_sides=(2.0, 4.0),
            crop_share=0.75,
            implant_share=0.2,
            negative_share=0.05,
        ),
    ),
}


class Trainee(nn.Module):
    """The part of the network that gradients pass: from the encoder's stem to the mask logits."""

    def __init__(self, network: BoxNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, boxes_xyxy: Tensor) -> Tensor:
        """Stem features (LiteMedSAM's are [n, 128, 128, 128]) and boxes [n, 4] to logits [n, 256, 256]."""
        embedding = self.network.body(features)
        return self.network.decode(embedding, boxes_xyxy)[0][:, 0]


def adapt(config: FinetuneConfig) -> PeftModel:
    """The base network with a fresh adapter (which changes nothing yet), all else frozen."""
    return attach(load_base(config.base)[0], config)


def attach(network: BoxNetwork, config: FinetuneConfig) -> PeftModel:
    """A fresh adapter on a network in float32."""
    from peft import LoraConfig, get_peft_model

    network.fold_batch_norm()
    torch.manual_seed(config.seed)
    return get_peft_model(
        network,  # type: ignore[arg-type]  # peft adapts any module
        LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            use_rslora=config.rslora,
            target_modules=list(config.targets),
            bias="none",
        ),
    )


def segmentation_loss(logits: Tensor, targets: Tensor, kind: str) -> Tensor:
    """One loss an example [n] for logits and 0/1 targets [n, y, x].

    "bce" is the mean binary cross-entropy over the frame; "bce+dice" adds one minus the soft Dice, with one
    pixel added above and below so that an empty target is met by an empty prediction.
    """
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=(1, 2))
    if kind == "bce+dice":
        chance = logits.sigmoid()
        overlap = (chance * targets).sum(dim=(1, 2))
        loss = loss + 1 - (2 * overlap + 1) / (chance.sum(dim=(1, 2)) + targets.sum(dim=(1, 2)) + 1)
    return loss


def finetune(
    config: FinetuneConfig,
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
    """Train one adapter and return its folder, ``out / "adapter"``.

    Args:
        config: the recipe.
        prepared: the data.
        split: as ``split_folds`` makes it; part ``fold`` says who trains, who validates and who is held out.
        fold: which part of the split.
        out: the run's folder; it gets config, split, environment, metrics a step and an epoch, curves, the adapter.
        resume: go on from the folder's last checkpoint. Without it, a folder that has one is refused.
        console: where progress is shown; standard error by default.
        device: "auto", or "cpu" to leave a GPU alone.
        stop_after_steps: end early, as an interruption would (for tests of resuming).

    Raises:
        InputError: a folder in use, or whose run is of another configuration.

    """
    from accelerate import Accelerator

    check_leaks(split, prepared)
    run = _Run(config, prepared, split["folds"][fold], Path(out), resume)
    accelerator = Accelerator(
        cpu=device == "cpu" or not torch.cuda.is_available(), mixed_precision=_precision()
    )
    run.open(accelerator)
    console = console or Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not accelerator.is_main_process,
    ) as progress:
        task = progress.add_task("steps", total=run.total_steps, completed=run.step)
        while run.step < run.total_steps:
            if stop_after_steps is not None and run.step >= stop_after_steps:
                return run.out
            run.train_step()
            progress.update(
                task,
                completed=run.step,
                description=f"epoch {run.epoch + 1}/{config.epochs} loss {run.last_loss:.4f}",
            )
            if run.step % run.steps_an_epoch == 0:
                run.end_epoch()
            elif time.monotonic() - run.saved_at > SAVE_EVERY_S:
                run.save()
    run.finish()
    return run.out / "adapter"


#: A checkpoint at least this often, so that an interruption costs little.
SAVE_EVERY_S = 60.0


class _Run:
    """One run's folder and state. A step trains; an epoch validates, logs and saves."""

    def __init__(
        self,
        config: FinetuneConfig,
        prepared: Prepared,
        part: Mapping[str, Any],
        out: Path,
        resume: bool,
    ) -> None:
        self.config, self.prepared, self.part, self.out = config, prepared, part, out
        self.network, self.base_sha256 = load_base(config.base)
        self.model = attach(self.network, config)
        self.examples = self._examples(part["train"], config.examples, seed=config.seed)
        self.step = 0
        self.last_loss = math.nan
        self.best = -math.inf
        self.step_rows: list[dict[str, float]] = []
        self.epoch_rows: list[dict[str, float]] = []
        self.stems: dict[str, Tensor] = {}
        self.saved_at = time.monotonic()
        checkpoint = out / "last.safetensors"
        if checkpoint.exists() and not resume:
            raise InputError(
                f"A run starts in a folder of its own; '{out.name}' has a run; add --resume or give another --out."
            )
        self.resumed = checkpoint if checkpoint.exists() else None

    @property
    def epoch(self) -> int:
        """The epoch that the next step belongs to, from 0."""
        return min(self.step // self.steps_an_epoch, self.config.epochs - 1)

    def open(self, accelerator: Accelerator) -> None:
        """Put the model on its device, write what describes the run, and go to where it was left."""
        config = self.config
        self.accelerator = accelerator
        self.group = config.batch * config.accumulate * accelerator.num_processes
        self.steps_an_epoch = math.ceil(len(self.examples) / self.group)
        self.total_steps = self.steps_an_epoch * config.epochs
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            trainable, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
        )
        self.trainee = Trainee(self.network)
        self.trainee, self.optimizer = accelerator.prepare(self.trainee, self.optimizer)
        if self.resumed is not None:
            self._load(self.resumed)
        elif accelerator.is_main_process:
            write_json(self.out / "config.json", config.to_json())
            write_json(self.out / "split.json", self.part)
            write_json(self.out / "environment.json", environment(self.prepared))

    def train_step(self) -> None:
        """One optimizer step: ``batch * accumulate`` examples on each device."""
        config, accelerator = self.config, self.accelerator
        started = time.monotonic()
        epoch, place = divmod(self.step, self.steps_an_epoch)
        order = self.examples.order(epoch)[place * self.group : (place + 1) * self.group]
        order = np.resize(
            order, math.ceil(len(order) / accelerator.num_processes) * accelerator.num_processes
        )
        share = order[accelerator.process_index :: accelerator.num_processes]
        rate = config.learning_rate * (1 + math.cos(math.pi * self.step / self.total_steps)) / 2
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        # Dropout is drawn from the step's own seed: nothing has to be kept for a resumed run to draw the same.
        torch.manual_seed(
            int(
                np.random.default_rng([config.seed, self.step, accelerator.process_index]).integers(
                    2**62
                )
            )
        )
        from peft.helpers import disable_input_dtype_casting

        self.trainee.train()
        total = 0.0
        # Under autocast peft's own cast to float32 would only be undone at the next layer, at a tenth of the time.
        pieces = list(chunks(share, config.microbatch))
        for number, piece in enumerate(pieces):
            features, boxes, targets = self._batch(piece, epoch)
            last = number == len(pieces) - 1
            # Gradients travel between devices once a step, with the last piece.
            with (
                accelerator.autocast(),
                disable_input_dtype_casting(self.model),
                _synchronised(accelerator, self.trainee, last),
            ):
                logits = self.trainee(features, boxes).float()
                loss = segmentation_loss(logits, targets, config.loss).sum() / len(share)
                accelerator.backward(loss)
            total += float(loss.detach())
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.last_loss = total
        self.step_rows.append(
            {
                "step": self.step,
                "epoch": epoch + 1,
                "learning_rate": rate,
                "loss": total,
                "seconds": time.monotonic() - started,
            }
        )

    def end_epoch(self) -> None:
        """Validate, log, keep the adapter where it is the best, and save."""
        if self.accelerator.is_main_process:
            validation = self.validate()
            mine = [row["loss"] for row in self.step_rows[-self.steps_an_epoch :]]
            self.epoch_rows.append(
                {
                    "epoch": self.step // self.steps_an_epoch,
                    "train_loss": float(np.mean(mine)),
                    **validation,
                    "seconds": sum(
                        row["seconds"] for row in self.step_rows[-self.steps_an_epoch :]
                    ),
                }
            )
            merit = (validation["validation_dice"] + validation["validation_jaccard"]) / 2
            if self.config.select == "last" or math.isnan(merit) or merit > self.best:
                self.best = merit
                self._save_adapter()
            self._log()
        self.save()
        self.accelerator.wait_for_everyone()

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Loss in the network's own frame, and Dice and Jaccard at native size through the predictor."""
        nothing = {
            "validation_loss": math.nan,
            "validation_dice": math.nan,
            "validation_jaccard": math.nan,
        }
        if not self.part["validation"]:
            return nothing
        plain = ExampleConfig(box_per=self.config.examples.box_per)
        examples = self._examples(self.part["validation"], plain, seed=0)
        self.trainee.eval()
        unwrapped = Trainee(self.network)  # one process validates; no gradients are exchanged
        losses = []
        for piece in chunks(np.arange(len(examples)), self.config.microbatch):
            features, boxes, targets = self._batch(piece, 0, examples)
            with self.accelerator.autocast():
                logits = unwrapped(features, boxes)
            losses += segmentation_loss(logits.float(), targets, "bce").tolist()
        protocol = "piece" if self.config.examples.box_per != "slice" else "slice"
        rows = score(
            predictor_of(self.network, self.config, str(self.accelerator.device.type)),
            native_slices(self.prepared, self.part["validation"]),
            [PROTOCOLS[protocol]],
        )
        summary = summary_of(rows)[protocol]
        return {
            "validation_loss": float(np.mean(losses)),
            "validation_dice": summary["dice"].mean,
            "validation_jaccard": summary["jaccard"].mean,
        }

    def save(self) -> None:
        """Write the checkpoint, whole or not at all: adapter, optimizer and position, without a pickle."""
        self.saved_at = time.monotonic()
        if not self.accelerator.is_main_process:
            return
        tensors = {f"adapter.{name}": value for name, value in self._adapter().items()}
        for name, parameter in self._adapter().items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        scaler = self.accelerator.scaler
        position = {
            "step": self.step,
            "best": self.best,
            "config": self.config.to_json(),
            "part": dict(self.part),
            "data_sha256": self.prepared.sha256,
            "steps": self.step_rows,
            "epochs": self.epoch_rows,
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        told = {"position": json.dumps(position)}
        replace_file(
            self.out / "last.safetensors", lambda part: save_file(kept, part, metadata=told)
        )

    def finish(self) -> None:
        """Draw the curves of a finished run."""
        if self.accelerator.is_main_process:
            self._log()
            draw_curves(self.out)
        self.accelerator.wait_for_everyone()

    def _examples(
        self, patients: Sequence[str], config: ExampleConfig, *, seed: int
    ) -> TrainingSlices:
        network = self.network
        return TrainingSlices(
            self.prepared,
            patients,
            config,
            seed=seed,
            frame_of=network.frame,
            target_size=network.logits_size,
        )

    def _batch(
        self,
        indices: Sequence[int] | np.ndarray,
        epoch: int,
        examples: TrainingSlices | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Stem features, boxes and targets of some examples, on the device."""
        source = examples or self.examples
        made = [source.example(int(index), epoch) for index in indices]
        device = self.accelerator.device
        features = torch.cat([self._stem(example) for example in made])
        boxes = torch.from_numpy(np.stack([example.box_xyxy for example in made])).to(device)
        targets = torch.from_numpy(np.stack([example.target for example in made])).to(device)
        return features, boxes, targets.float()

    @torch.no_grad()
    def _stem(self, example: Example) -> Tensor:
        """The encoder's stem on one example's image; kept where the same image will come again.

        The stem has no adapted layer and hence no gradient; on a CPU it is a third of LiteMedSAM's encoder.
        """
        device, key = self.accelerator.device, example.key
        if key is not None and key in self.stems:
            return self.stems[key]
        image = torch.from_numpy(example.image).to(device)[None]
        pixels = self.network.pixels(image, [example.content_yx])
        with self.accelerator.autocast():
            stem = self.network.stem(pixels)
        if key is not None and device.type == "cpu" and self.network.stem_is_costly:
            self.stems[key] = stem
        return stem

    def _adapter(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def _load(self, checkpoint: Path) -> None:
        with safe_open(checkpoint, framework="pt") as file:
            position = json.loads(file.metadata()["position"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if FinetuneConfig.from_json(position["config"]) != self.config:
            raise InputError(
                f"A run is resumed with the configuration it began with; '{self.out.name}' has another; "
                "give the same options or another --out."
            )
        if position["data_sha256"] != self.prepared.sha256 or position["part"] != dict(self.part):
            raise InputError(
                f"A run is resumed on the data and the split it began with; '{self.out.name}' has others; "
                "give the same --data and --fold or another --out."
            )
        with torch.no_grad():
            for name, parameter in self._adapter().items():
                parameter.copy_(tensors[f"adapter.{name}"])
                state = {
                    key: tensors[f"optimizer.{key}.{name}"]
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"optimizer.{key}.{name}" in tensors
                }
                if state:
                    device = parameter.device
                    self.optimizer.state[parameter] = {
                        key: value if key == "step" else value.to(device)
                        for key, value in state.items()
                    }
        self.step, self.best = position["step"], position["best"]
        self.step_rows, self.epoch_rows = position["steps"], position["epochs"]
        if position["scaler"] and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(position["scaler"])

    def _save_adapter(self) -> None:
        """Save the adapter as peft does, each file whole or not at all."""
        part, final = self.out / "adapter.part", self.out / "adapter"
        self.model.save_pretrained(part, save_embedding_layers=False)
        final.mkdir(parents=True, exist_ok=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            os.replace(part / name, final / name)
        for left in part.iterdir():
            left.unlink()
        part.rmdir()
        write_json(
            final / "training.json",
            {
                "inference": {
                    "second_look": self.config.second_look,
                    "crop_sides": self.config.crop_sides,
                },
                "config": self.config.to_json(),
                "base_sha256": self.base_sha256,
                "split": dict(self.part),
                "epoch": self.step // self.steps_an_epoch,
                "data": {"dataset": self.prepared.dataset, "sha256": self.prepared.sha256},
                "environment": environment(self.prepared),
            },
        )

    def _log(self) -> None:
        for name, rows in (("steps.csv", self.step_rows), ("epochs.csv", self.epoch_rows)):
            if rows:
                write_table(self.out / name, rows)


def predictor_of(
    network: BoxNetwork, config: FinetuneConfig, device: str = "cpu"
) -> NetworkPredictor:
    """The application's own predictor around a network in training, so that what is scored is what users get."""
    return NetworkPredictor(
        TorchBackend(network, device=device),
        "in-training",
        "in training",
        {},
        second_look=config.second_look,
        crop_sides=config.crop_sides,
    )


def draw_curves(out: Path) -> Path:
    """Losses, and validation Dice and Jaccard, by epoch (the paper's Figure 3): ``out / "curves.png"``."""
    from matplotlib.figure import Figure

    with (out / "epochs.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for axes, names in (
        (losses, ("train_loss", "validation_loss")),
        (scores, ("validation_dice", "validation_jaccard")),
    ):
        for name in names:
            axes.plot(epochs, [row[name] for row in rows], marker="o", label=name.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.legend(frameon=False)
    losses.set_ylabel("loss")
    scores.set_ylim(0, 1)
    replace_file(out / "curves.png", lambda part: figure.savefig(part, dpi=120))
    return out / "curves.png"


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


def _precision() -> str:
    """bfloat16 on a CPU and on GPUs that have it, float16 on those that do not (a T4)."""
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "fp16"
    return "bf16"


def _synchronised(accelerator: Accelerator, module: nn.Module, now: bool) -> Any:
    from contextlib import nullcontext

    return nullcontext() if now else accelerator.no_sync(module)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _parse(text: str) -> Any:
    """A setting's value: JSON where it is JSON (numbers, true, [2, 4]), else the text."""
    try:
        return _tuple(json.loads(text))
    except json.JSONDecodeError:
        return text
