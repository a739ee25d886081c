"""What fine-tuning takes of a GPU's memory, computed from shapes alone: python -m train memory --base medsam

No weights are needed and nothing is computed but shapes: the network runs on tensors without storage, and what autograd
keeps of its forward pass for the backward pass is added up. What comes on top is not known before it is measured on
the card: CUDA's own context, workspaces of its kernels, and what the allocator cannot fill.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ichseg.errors import InputError
from ichseg.methods.catalogue import BASES
from ichseg.methods.network import BoxNetwork, LiteMedSAM
from train.finetune import FinetuneConfig, Trainee, attach, segmentation_loss

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True)
class Memory:
    """Bytes, and how many parameters they are of."""

    parameters: int
    trainable: int
    weights: int
    """All parameters in float32."""
    optimizer: int
    """The adapter's gradients and AdamW's two moments in float32."""
    activations: int
    """What the forward pass of one microbatch keeps for the backward pass, under bfloat16 autocast."""

    @property
    def total(self) -> int:
        """The sum, without what only a measurement would tell."""
        return self.weights + self.optimizer + self.activations


def memory(config: FinetuneConfig) -> Memory:
    """What a configuration takes with its ``microbatch``, for the base that it names."""
    if config.base not in BASES:
        raise InputError(
            f"A base is one of {', '.join(BASES)}; got '{config.base}'; choose one of them."
        )
    with torch.device("meta"):
        network = _network(config.base)
        model = attach(network, config)
    # Tensors that have no storage, as on "meta", but say that they are on the CPU, so that its autocast applies.
    with FakeTensorMode():
        return of_model(without_storage(model), config)


def without_storage(model: PeftModel) -> PeftModel:
    """Each parameter and buffer made anew on the CPU; within FakeTensorMode they take no memory."""
    made: dict[nn.Parameter, nn.Parameter] = {}  # one that two modules share is shared again
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter not in made:
                empty = torch.empty(parameter.shape)
                made[parameter] = nn.Parameter(empty, parameter.requires_grad)
            setattr(module, name, made[parameter])
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))
    return model


def of_model(model: PeftModel, config: FinetuneConfig) -> Memory:
    """The same for a network that an adapter is attached to, with storage or without."""
    adapter = [p for p in model.parameters() if p.requires_grad]
    trainable = sum(p.numel() for p in adapter)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return Memory(
        parameters=sum(p.numel() for p in model.parameters()),
        trainable=trainable,
        weights=weights,
        optimizer=3 * 4 * trainable,
        activations=_kept(model, config),
    )


def _kept(model: PeftModel, config: FinetuneConfig) -> int:
    """Bytes of distinct storages that autograd saves in one microbatch, without the parameters themselves."""
    from peft.helpers import disable_input_dtype_casting

    network: BoxNetwork = model.get_base_model()  # type: ignore[assignment]
    side, n = network.image_size, config.microbatch
    images, boxes = torch.zeros(n, side, side), torch.tensor([[8.0, 8, 40, 40]] * n)
    targets = torch.zeros(n, network.logits_size, network.logits_size)
    parameters = {p.untyped_storage()._cdata for p in network.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if (place := tensor.untyped_storage()._cdata) not in parameters:
            kept[place] = tensor  # held, so that no other tensor takes its place
        return tensor

    network.train()
    autocast = torch.autocast("cpu", dtype=torch.bfloat16)
    with autocast, disable_input_dtype_casting(model):
        with torch.no_grad():
            stem = network.stem(network.pixels(images, [(side, side)] * n))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = Trainee(network)(stem, boxes).float()
            segmentation_loss(logits, targets, config.loss).sum()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _network(base: str) -> BoxNetwork:
    if base == "litemedsam":
        return LiteMedSAM()
    from transformers import SamConfig

    from ichseg.methods.sam import NETWORKS

    return NETWORKS[base](SamConfig())


def table(config: FinetuneConfig) -> str:
    """Markdown: one row for a microbatch of 1, 2, 4 and the configuration's own."""
    sizes = sorted({1, 2, 4, config.microbatch})
    rows = [(n, memory(dataclasses.replace(config, microbatch=n))) for n in sizes]
    one = rows[0][1]
    lines = [
        f"{config.base}, rank {config.rank}: {one.trainable:,} of {one.parameters:,} parameters are trained "
        f"({100 * one.trainable / one.parameters:.1f} %).",
        "",
        "| microbatch | weights, float32 | gradients and AdamW | kept for the backward pass | sum |",
        "|---|---|---|---|---|",
    ]
    for n, row in rows:
        cells = (row.weights, row.optimizer, row.activations, row.total)
        lines.append(f"| {n} | " + " | ".join(f"{cell / 1e9:.2f} GB" for cell in cells) + " |")
    return "\n".join(lines) + "\n"
