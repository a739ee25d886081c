"""Where the arithmetic of a network is done: torch on a CPU or a GPU, or OpenVINO on a CPU.

A back end takes images and boxes in the model frame and gives embeddings and logits, as numpy arrays. Here is what both
have in common, and which one is used: ``torch_backend`` and ``openvino_backend`` do the arithmetic.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from ichseg.errors import InputError
from ichseg.methods.frame import FloatArray, Framing

HalfArray = npt.NDArray[np.float16]

#: What --backend takes. "auto": torch where there is a CUDA GPU, else OpenVINO where it can run the model, else torch.
BACKENDS = ("auto", "torch", "openvino")

#: The back end where none is asked for; the command lines' --backend sets it for what they start, too.
BACKEND_VARIABLE = "ICHSEG_BACKEND"

#: Boxes decoded, and on a GPU slices encoded, in one batch: memory grows with it, and above it speed does not.
AT_ONCE = 8


class Backend(ABC):
    """A network that is ready to compute. Thread-safe: one caller at a time encodes, and one decodes."""

    name: str
    """Of BACKENDS."""
    device: str
    """As torch calls it: "cpu" or "cuda"."""
    precision: str
    """Of the image encoder: "float32", "bfloat16" or "float16". Its stem is float32 on a CPU: three digits
    cost more agreement there than in all that follows, and models with one stem then share it whatever follows."""
    framing: Framing

    @abstractmethod
    def encode(
        self, images: Sequence[FloatArray], contents_yx: Sequence[tuple[int, int]]
    ) -> list[HalfArray]:
        """Images [y, x] in [0, 1], each with the (rows, columns) that are no padding, to an embedding [1, ...] each."""

    @abstractmethod
    def decode(
        self, embedding: HalfArray, boxes_xyxy: FloatArray
    ) -> tuple[FloatArray, npt.NDArray[np.float32]]:
        """Embeddings [1 or n, ...] and boxes [n, 4] in the frame: logits [n, side, side] and IoU [n]."""

    @property
    def title(self) -> str:
        """Which back end, where and how precisely, for people."""
        where = {"cpu": "CPU", "cuda": "GPU"}[self.device]
        return f"{'OpenVINO' if self.name == 'openvino' else self.name}, {where}, {self.precision}"


# Which one


def check_device(name: str) -> None:
    """Raise InputError for a device that is not auto, cpu or cuda."""
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"A device is auto, cpu or cuda; got '{name}'; choose one of them.")


def pick_backend(name: str | None, device: str = "auto") -> str:
    """The back end of a name for LiteMedSAM on a device: "torch" or "openvino".

    Args:
        name: of BACKENDS; None is what ICHSEG_BACKEND says, else "auto".
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: an unknown name; OpenVINO asked for where it is not installed, or on a GPU.

    """
    check_device(device)
    name = check_backend(name)
    if name == "openvino":
        if not has_openvino():
            raise InputError(
                "Back end 'openvino' needs the package openvino, which is not installed here; install it as "
                "requirements.txt pins it, or use 'torch'."
            )
        if device == "cuda":
            raise InputError(
                "Back end 'openvino' runs on the CPU; got device 'cuda'; use back end 'torch', or device 'cpu'."
            )
        return name
    if name == "torch" or device == "cuda" or not has_openvino():
        return "torch"
    return "torch" if device == "auto" and _has_cuda() else "openvino"


def use_backend(name: str | None) -> None:
    """Let a name of BACKENDS, unless it is None, hold from here on for this process and those that it starts.

    Raises:
        InputError: an unknown name, or OpenVINO where it is not installed.

    """
    if name is not None:
        pick_backend(name)
        os.environ[BACKEND_VARIABLE] = name


def check_backend(name: str | None) -> str:
    """A name that is one of BACKENDS; for None the one that ICHSEG_BACKEND says, else "auto"."""
    name = name or os.environ.get(BACKEND_VARIABLE) or "auto"
    if name not in BACKENDS:
        raise InputError(
            f"A back end is {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}; got '{name}'; choose one of them."
        )
    return name


def has_openvino() -> bool:
    """Whether OpenVINO is installed; it is not loaded for that."""
    return "openvino" in sys.modules or find_spec("openvino") is not None


def _has_cuda() -> bool:
    """Whether torch sees a CUDA GPU; torch is loaded only where there is a driver to see one by."""
    try:
        if metadata.version("torch").endswith("+cpu"):
            return False
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except (OSError, metadata.PackageNotFoundError):
        return False
    import torch

    return torch.cuda.is_available()


# What models with the same stem share


class StemMemory:
    """The stem's output for the last images, by content: both panes ask for the same slice, one after the other."""

    def __init__(self, keep: int = 2) -> None:
        self._keep = keep
        self._kept: OrderedDict[bytes, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, image: FloatArray, compute: Callable[[], Any]) -> Any:
        """What ``compute`` gave for this image, or gives now."""
        key = hashlib.blake2b(image.tobytes(), digest_size=32).digest()
        with self._lock:
            if key in self._kept:
                return self._kept[key]
        features = compute()
        with self._lock:
            self._kept[key] = features
            while len(self._kept) > self._keep:
                self._kept.popitem(last=False)
        return features

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._kept.clear()


_MEMORIES: dict[Hashable, StemMemory] = {}
_SHARING = threading.Lock()


def stem_memory(key: Hashable) -> StemMemory:
    """The one memory of all back ends that give this key."""
    with _SHARING:
        return _MEMORIES.setdefault(key, StemMemory())


def forget_images() -> None:
    """Drop what is kept of anybody's images; whoever asks next computes it again."""
    with _SHARING:
        for memory in _MEMORIES.values():
            memory.clear()
