"""Write tests/data/litemedsam_golden.npz: python -m tests.make_golden

A synthetic slice by formula and what LiteMedSAM says of it, sampled to stay small. Made once, by a network that
matched the reference implementation's output on a real slice within 1e-4 (test_network.py).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ichseg.methods.bases import load_litemedsam
from ichseg.methods.network import LiteMedSAM

PATH = Path(__file__).parent / "data" / "litemedsam_golden.npz"
BOX = (96.0, 84.0, 150.0, 141.0)


def image() -> np.ndarray:
    """A bright ellipse in a darker disc: float32 [256, 256] in 0..1."""
    y, x = np.mgrid[:256, :256].astype(np.float64)
    disc = (x - 128) ** 2 + (y - 120) ** 2 < 100**2
    blood = ((x - 122) / 24) ** 2 + ((y - 112) / 26) ** 2 < 1
    texture = 0.03 * np.sin(x / 3) * np.cos(y / 5)
    return np.clip(0.12 * disc + 0.35 * blood + texture * disc, 0, 1).astype(np.float32)


def batch() -> torch.Tensor:
    """The slice as the network takes it."""
    return torch.from_numpy(image())[None, None].expand(1, 3, -1, -1)


class Answer(NamedTuple):
    """What a network says of the slice and the box."""

    embedding: torch.Tensor
    logits: torch.Tensor
    iou: torch.Tensor


def answer(network: LiteMedSAM) -> Answer:
    with torch.inference_mode():
        embedding = network.image_encoder(batch())
        return Answer(embedding, *network.decode(embedding, torch.tensor([BOX])))


def sampled(given: Answer) -> dict[str, np.ndarray]:
    """Every 4th value of the embedding's first 16 channels, every 8th logit, and the IoU."""
    return {
        "embedding": given.embedding[0, :16, ::4, ::4].numpy(),
        "logits": given.logits[0, 0, ::8, ::8].numpy(),
        "iou": given.iou.numpy(),
    }


if __name__ == "__main__":
    np.savez_compressed(PATH, **sampled(answer(load_litemedsam()[0])))
