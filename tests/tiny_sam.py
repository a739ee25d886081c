"""A SamModel small enough to make, save and train in a test: 64 x 64 pixels, 8 x 8 patches, two layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import SamConfig, SamModel


def tiny_config(
    *,
    image: int = 64,
    patch: int = 8,
    encoder: dict[str, Any] | None = None,
    decoder: dict[str, Any] | None = None,
) -> SamConfig:
    """``encoder`` and ``decoder`` change fields; an empty ``decoder`` is the real one."""
    small = {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
    decoder = small if decoder is None else decoder
    hidden = decoder.get("hidden_size", 256)
    return SamConfig(
        vision_config={
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "window_size": 3,
            "global_attn_indexes": [1],
            "output_channels": 32,
            "num_pos_feats": hidden // 2,
            "image_size": image,
            "patch_size": patch,
            **(encoder or {}),
        },
        prompt_encoder_config={"hidden_size": hidden, "image_size": image, "patch_size": patch},
        mask_decoder_config=decoder,
    )


def enlarged(network: Any, seed: int = 0) -> Any:
    """The same with random weights so large that what it sees and is asked changes its answer."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1 and "positional" not in name:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
    return network


def write_tiny(folder: Path) -> None:
    """Save one of these as transformers does: config.json and model.safetensors."""
    torch.manual_seed(0)
    enlarged(SamModel(tiny_config())).save_pretrained(folder)
