"""The fine-tune: an adapter on a network that takes boxes, for any hardware that Hugging Face accelerate drives."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from torch import Tensor, nn

from ichseg.methods.bases import load_base
from ichseg.methods.network import BoxNetwork
from ichseg.methods.predictor import NetworkPredictor
from ichseg.methods.torch_backend import TorchBackend, computes_in_bfloat16, pick_device
from ichseg.replace_file import write_whole
from train.data.cache import Prepared
from train.data.example_config import ExampleConfig
from train.data.examples import Example, TrainingSlices, chunks
from train.data.files import write_json
from train.data.split import check_leaks
from train.loop import Learner, RunFolder, progress_bar, train
from train.loss import segmentation_loss
from train.recipes import FinetuneConfig

if TYPE_CHECKING:
    from accelerate import Accelerator
    from peft import PeftModel


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
        network,
        LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            use_rslora=config.rslora,
            target_modules=list(config.targets),
            bias="none",
        ),
    )


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
        resume: go on from the folder's last checkpoint. Without it, a folder that has a run is refused.
        console: where progress is shown; standard error by default.
        device: "auto", or "cpu" to leave a GPU alone.
        stop_after_steps: end early, as an interruption would (for tests of resuming).

    Raises:
        InputError: a folder in use, or whose run is of another configuration.

    """
    from accelerate import Accelerator

    check_leaks(dict(split), prepared)
    run = RunFolder(Path(out), config, prepared, split["folds"][fold])
    run.check(resume=resume)
    where = pick_device(device)
    # Processes that train together meet here: none has written yet when another checks the folder.
    accelerator = Accelerator(cpu=where.type == "cpu", mixed_precision=mixed_precision(where))
    learner = AdapterLearner(config, run, accelerator)
    if learner.is_main:
        run.describe()
    with progress_bar(console, shown=learner.is_main) as progress:
        train(learner, run, progress, stop_after_steps=stop_after_steps)
    return run.out / "adapter"


class AdapterLearner(Learner):
    """A base network and its adapter, in one of the processes that train together."""

    examples: TrainingSlices

    def __init__(self, config: FinetuneConfig, run: RunFolder, accelerator: Accelerator) -> None:
        self.config, self.run, self.accelerator = config, run, accelerator
        self.network, self.base_sha256 = load_base(config.base)
        self.model = attach(self.network, config)
        self.examples = self._examples(run.part["train"], config.examples, seed=config.seed)
        self.group = config.batch * config.accumulate * accelerator.num_processes
        self.epochs, self.select = config.epochs, config.select
        self.protocol = "slice" if config.examples.box_per == "slice" else "component"
        self.is_main = accelerator.is_main_process
        optimizer = torch.optim.AdamW(
            self.parameters().values(),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )
        self.trainee, self.optimizer = accelerator.prepare(Trainee(self.network), optimizer)
        self._stems: dict[str, Tensor] = {}

    def learning_rate(self, step: int, total: int) -> float:
        """Down from its peak to 0 along a cosine."""
        return self.config.learning_rate * (1 + math.cos(math.pi * step / total)) / 2

    def learn(self, indices: npt.NDArray[np.int64], step: int, epoch: int) -> float:
        """One step's share of the process: ``batch * accumulate`` examples, ``microbatch`` at a time."""
        from peft.helpers import disable_input_dtype_casting

        accelerator, processes = self.accelerator, self.accelerator.num_processes
        indices = np.resize(indices, math.ceil(len(indices) / processes) * processes)
        share = indices[accelerator.process_index :: processes]
        # Dropout is drawn from the step's own seed: nothing has to be kept for a resumed run to draw the same.
        seeds = np.random.default_rng([self.config.seed, step, accelerator.process_index])
        torch.manual_seed(int(seeds.integers(2**62)))
        self.trainee.train()
        total = 0.0
        batches = list(chunks(share, self.config.microbatch))
        for number, batch in enumerate(batches):
            features, boxes, targets = self._batch(self.examples, batch, epoch)
            # Under autocast peft's own cast to float32 would only be undone at the next layer, at a tenth of the time.
            with (
                accelerator.autocast(),
                disable_input_dtype_casting(self.model),
                # Gradients travel between devices once a step, with the last batch.
                self._synchronised(number == len(batches) - 1),
            ):
                logits = self.trainee(features, boxes).float()
                loss = segmentation_loss(logits, targets, self.config.loss).sum() / len(share)
                accelerator.backward(loss)
            total += float(loss.detach())
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

    def validation_losses(self, patients: Sequence[str]) -> list[float]:
        """Cross-entropy, whatever the recipe's loss, so that recipes can be compared."""
        plain = ExampleConfig(box_per=self.config.examples.box_per)
        examples = self._examples(patients, plain, seed=0)
        self.trainee.eval()
        unwrapped = Trainee(self.network)  # one process validates; no gradients are exchanged
        losses: list[float] = []
        for batch in chunks(np.arange(len(examples)), self.config.microbatch):
            features, boxes, targets = self._batch(examples, batch, 0)
            with self.accelerator.autocast():
                logits = unwrapped(features, boxes)
            losses += segmentation_loss(logits.float(), targets, "bce").tolist()
        return losses

    def predictor(self) -> NetworkPredictor:
        return predictor_of(self.network, self.config, str(self.accelerator.device.type))

    def parameters(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def tensors(self) -> dict[str, Tensor]:
        return {f"adapter.{name}": value for name, value in self.parameters().items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters().items():
                parameter.copy_(tensors[f"adapter.{name}"])

    def keep(self, epoch: int) -> None:
        """Save the adapter as peft does, each file whole or not at all."""
        part, final = self.run.out / "adapter.part", self.run.out / "adapter"
        self.model.save_pretrained(str(part), save_embedding_layers=False)
        final.mkdir(parents=True, exist_ok=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            write_whole(final / name, (part / name).read_bytes())
        shutil.rmtree(part)
        inference = {"second_look": self.config.refinement, "crop_sides": self.config.crop_sides}
        told = {"inference": inference, "base_sha256": self.base_sha256, "epoch": epoch}
        write_json(final / "training.json", told | self.run.training())

    def scaler(self) -> Any:
        return self.accelerator.scaler

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()

    def _synchronised(self, now: bool) -> AbstractContextManager[Any]:
        return nullcontext() if now else self.accelerator.no_sync(self.trainee)

    def _examples(
        self, patients: Sequence[str], config: ExampleConfig, *, seed: int
    ) -> TrainingSlices:
        network = self.network
        return TrainingSlices(
            self.run.prepared,
            patients,
            config,
            seed=seed,
            frame_of=network.frame,
            target_size=network.logits_size,
        )

    def _batch(
        self, examples: TrainingSlices, indices: npt.NDArray[np.int64], epoch: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Stem features, boxes and targets of some examples, on the device."""
        made = [examples.example(int(index), epoch) for index in indices]
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
        if key is not None and key in self._stems:
            return self._stems[key]
        image = torch.from_numpy(example.image).to(device)[None]
        pixels = self.network.pixels(image, [example.content_yx])
        with self.accelerator.autocast():
            stem = self.network.stem(pixels)
        if key is not None and device.type == "cpu" and self.network.stem_is_costly:
            self._stems[key] = stem
        return stem


def predictor_of(
    network: BoxNetwork, config: FinetuneConfig, device: str = "cpu"
) -> NetworkPredictor:
    """The application's own predictor around a network in training, so that what is scored is what users get."""
    return NetworkPredictor(
        TorchBackend(network, device=device),
        "in-training",
        "in training",
        {},
        second_look=config.refinement,
        crop_sides=config.crop_sides,
    )


def mixed_precision(device: torch.device) -> str:
    """bfloat16 where the hardware computes in it; else float16 on a GPU (a T4) and float32 on a CPU."""
    if computes_in_bfloat16(device):
        return "bf16"
    return "fp16" if device.type == "cuda" else "no"
