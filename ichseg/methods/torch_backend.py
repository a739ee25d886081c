"""The back end that computes any network of boxes in torch, on a CPU or a GPU."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ichseg.errors import InputError, check_cancelled
from ichseg.methods.backends import AT_ONCE, Backend, HalfArray, check_device, stem_memory
from ichseg.methods.frame import FloatArray

if TYPE_CHECKING:
    import torch

    from ichseg.methods.network import BoxNetwork


class TorchBackend(Backend):
    """Any BoxNetwork in torch, as it is: also one whose adapter still trains."""

    name = "torch"

    def __init__(
        self,
        network: BoxNetwork,
        *,
        device: str = "auto",
        precision: str = "auto",
        bfloat16: bool = True,
        stem_key: Hashable = None,
    ) -> None:
        """Take over a network.

        Args:
            network: weights in float32.
            device: "auto", "cpu" or "cuda".
            precision: of the image encoder: "float32", "bfloat16" or "float16"; "auto" is half precision where the
                hardware computes in it.
            bfloat16: whether "auto" may be that, which holds 3 digits.
            stem_key: equal for networks with the same stem, which then compute it once an image.

        """
        import torch

        where = pick_device(device)
        self.device = where.type
        self.precision = _torch_precision(where, bfloat16) if precision == "auto" else precision
        self.framing = network
        self._network = network.to(where).eval()
        if self.device == "cuda":
            self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._stems = stem_memory((stem_key, self.device)) if stem_key else None
        # One caller at a time on the accelerator: two at once are slower together than in turn.
        self._lock = threading.Lock()

    def encode(
        self, images: Sequence[FloatArray], contents_yx: Sequence[tuple[int, int]]
    ) -> list[HalfArray]:
        # On a CPU a batch is no faster, needs more memory, and keeps whoever draws waiting for all of it.
        step = self._network.images_at_once or (AT_ONCE if self.device == "cuda" else 1)
        found: list[HalfArray] = []
        for i in range(0, len(images), step):
            check_cancelled()
            found += self._encode(images[i : i + step], contents_yx[i : i + step])
        return found

    def _encode(
        self, images: Sequence[FloatArray], contents_yx: Sequence[tuple[int, int]]
    ) -> list[HalfArray]:
        import torch

        def stem() -> torch.Tensor:
            stacked = torch.from_numpy(np.stack(images)).to(self.device)
            with self._autocast(self.device == "cuda"):
                return self._network.stem(self._network.pixels(stacked, contents_yx))

        with self._lock, torch.inference_mode():
            shared = self._stems if len(images) == 1 else None
            features = shared.get(images[0], stem) if shared else stem()
            with self._autocast():
                embedding = self._network.body(features)
            halves: HalfArray = embedding.half().cpu().numpy()
        return [halves[i : i + 1] for i in range(len(halves))]

    def _autocast(self, wanted: bool = True) -> torch.autocast:
        import torch

        half = wanted and self.precision != "float32"
        return torch.autocast(self.device, getattr(torch, self.precision), enabled=half)

    def decode(
        self, embedding: HalfArray, boxes_xyxy: FloatArray
    ) -> tuple[FloatArray, npt.NDArray[np.float32]]:
        import torch

        with self._lock, torch.inference_mode():
            logits, iou = self._network.decode(
                torch.from_numpy(embedding).to(self.device, torch.float32),
                torch.from_numpy(boxes_xyxy).to(self.device),
            )
            return logits[:, 0].float().cpu().numpy(), iou[:, 0].float().cpu().numpy()


def pick_device(name: str) -> torch.device:
    """The device of a name: "auto" (CUDA where there is one, else the CPU), "cpu" or "cuda", as torch has it."""
    check_device(name)
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "Device 'cuda' needs a CUDA GPU; this machine has none; use 'auto' or 'cpu'."
        )
    return torch.device(name)


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; where it is emulated, training takes many times as long."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capability = torch.backends.cpu.get_cpu_capability()
    return capability == "AVX512" and torch.cpu._is_avx512_bf16_supported()


def _torch_precision(device: torch.device, bfloat16: bool) -> str:
    if device.type == "cuda":
        return "float16"
    return "bfloat16" if bfloat16 and computes_in_bfloat16(device) else "float32"
