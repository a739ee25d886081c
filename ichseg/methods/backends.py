"""Where the arithmetic of a network is done: torch on a CPU or a GPU, or OpenVINO on a CPU.

A back end takes images and boxes in the model frame and gives embeddings and logits, as numpy arrays: which of them
runs is known here alone. OpenVINO's models are made from our own torch network, and kept compiled in a folder of this
user's (``cache_folder``), so that the next start needs neither torch nor the seconds that making them takes. The
folder holds weights in another form and nothing of anybody's scan.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import json
import logging
import os
import platform
import sys
import threading
import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import platformdirs

from ichseg.errors import InputError
from ichseg.methods.frame import FloatArray, Framing
from ichseg.replace_file import write_whole

if TYPE_CHECKING:
    import torch

    from ichseg.methods.network import BoxNetwork
    from ichseg.methods.network.inference import InferenceNetwork

HalfArray = npt.NDArray[np.float16]

#: What --backend takes. "auto": torch where there is a CUDA GPU, else OpenVINO where it can run the model, else torch.
BACKENDS = ("auto", "torch", "openvino")

#: The back end where none is asked for; the command lines' --backend sets it for what they start, too.
BACKEND_VARIABLE = "ICHSEG_BACKEND"

#: Another place for ``cache_folder``.
CACHE_VARIABLE = "ICHSEG_CACHE"

#: Boxes decoded, and on a GPU slices encoded, in one batch: memory grows with it, and above it speed does not.
AT_ONCE = 8

#: Compiled parts kept on disk: three a model, of which adapters share one; 28 MB is the largest.
MOST_COMPILED = 16

_log = logging.getLogger(__name__)


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


class OpenVinoBackend(Backend):
    """LiteMedSAM compiled by OpenVINO for this CPU, in three parts; models that differ by an adapter share the stem."""

    name = "openvino"
    device = "cpu"

    def __init__(
        self,
        build: Callable[[], InferenceNetwork],
        *,
        key: str,
        stem_key: str,
        precision: str = "auto",
        bfloat16: bool = True,
    ) -> None:
        """Take the compiled parts from the cache, or make them.

        Args:
            build: gives the network laid out for inference, in float32; called where a part is not in the cache.
            key: what the weights are known by, all of them.
            stem_key: what the stem's weights are known by.
            precision: of the image encoder behind its stem: "float32" or "bfloat16"; "auto" is bfloat16 where the CPU
                computes in it. The stem and the decoder are always float32.
            bfloat16: whether "auto" may be that.

        """
        core = _core()
        if precision == "auto":
            half = bfloat16 and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            precision = "bfloat16" if half else "float32"
        self.precision = precision
        self.framing = Framing()
        networks: list[InferenceNetwork] = []

        def network() -> InferenceNetwork:
            if not networks:
                networks.append(build())
            return networks[0]

        self._stem = _shared_stem(stem_key, network)
        self._body = _part("body", key, precision, network)
        self._decoder = _part("decoder", key, "float32", network)
        self._stems = stem_memory((stem_key, self.name))

    def encode(
        self, images: Sequence[FloatArray], contents_yx: Sequence[tuple[int, int]]
    ) -> list[HalfArray]:
        del contents_yx
        # One by one: a batch is no faster on a CPU, and whoever draws gets in between.
        return [self._encode(image) for image in images]

    def _encode(self, image: FloatArray) -> HalfArray:
        features = self._stems.get(image, lambda: self._stem(image[None])[0])
        return self._body(features)[0]

    def decode(
        self, embedding: HalfArray, boxes_xyxy: FloatArray
    ) -> tuple[FloatArray, npt.NDArray[np.float32]]:
        logits, iou = self._decoder(embedding, boxes_xyxy)
        return logits, iou


# Which one


def pick_device(name: str) -> torch.device:
    """The device of a name: "auto" (CUDA where there is one, else the CPU), "cpu" or "cuda", as torch has it."""
    _check_device(name)
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "Device 'cuda' needs a CUDA GPU; this machine has none; use 'auto' or 'cpu'."
        )
    return torch.device(name)


def _check_device(name: str) -> None:
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
    _check_device(device)
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


def _torch_precision(device: torch.device, bfloat16: bool) -> str:
    import torch

    if device.type == "cuda":
        return "float16"
    capability = torch.backends.cpu.get_cpu_capability()
    has_bfloat16 = bfloat16 and capability == "AVX512" and torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if has_bfloat16 else "float32"


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
_COMPILED_STEMS: dict[str, _Part] = {}
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


# OpenVINO

#: What OpenVINO calls a precision.
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class _Part:
    """One compiled model; a caller waits for the one before it."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def __call__(self, *inputs: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        with self._lock:
            results = self._request.infer(list(inputs), share_inputs=True)
            return [results[i] for i in range(len(results))]


def _openvino() -> Any:
    """OpenVINO without its telemetry, which would tell its makers of every import and conversion."""
    if "openvino" not in sys.modules:
        # Its own fallback for a machine without that package is a stub which sends nothing.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def _core() -> Any:
    with _SHARING:
        if not _CORES:
            _CORES.append(_openvino().Core())
        return _CORES[0]


_CORES: list[Any] = []


def _shared_stem(weights_key: str, network: Callable[[], InferenceNetwork]) -> _Part:
    """The one compiled stem of all models that have these weights in it."""
    if weights_key not in _COMPILED_STEMS:
        _COMPILED_STEMS[weights_key] = _part("stem", weights_key, "float32", network)
    return _COMPILED_STEMS[weights_key]


def _part(
    part: str, weights_key: str, precision: str, network: Callable[[], InferenceNetwork]
) -> _Part:
    """A compiled part from the cache, or compiled and put there."""
    core = _core()
    options = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        # Pinned, the threads of all our processes would crowd on the first cores while others rest.
        "ENABLE_CPU_PINNING": "NO",
    }
    if (threads := os.environ.get("OMP_NUM_THREADS", "")).isdecimal():
        # As torch does: whoever runs several of us side by side, Ray for one, says how many each may use.
        options["INFERENCE_NUM_THREADS"] = threads
    cache = CompiledCache(cache_folder())
    name = cache_key(part, weights_key, precision)
    if (blob := cache.read(name)) is not None:
        try:
            return _Part(core.import_model(blob, "CPU", options))
        except RuntimeError:  # made by another build of the same version
            _log.info("a compiled model in the cache could not be used; it is made anew")
    compiled = core.compile_model(_convert(part, network()), "CPU", options)
    exported = io.BytesIO()
    compiled.export_model(exported)
    cache.write(name, exported.getvalue())
    return _Part(compiled)


def _convert(part: str, network: InferenceNetwork) -> Any:
    """A part of a network as OpenVINO's model; embeddings are float16 on the way in and out."""
    import torch

    ov = _openvino()
    module, example = network.parts()[part]
    with torch.no_grad(), warnings.catch_warnings():
        # Torch says that tracing is deprecated; it is what OpenVINO reads.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
        model = ov.convert_model(traced)
    if part == "decoder":
        shapes = (ov.PartialShape([-1, *one.shape[1:]]) for one in example)
        model.reshape(dict(enumerate(shapes)))
    else:
        model.reshape(list(example[0].shape))
    ends = ov.preprocess.PrePostProcessor(model)
    if part == "body":
        ends.output(0).tensor().set_element_type(ov.Type.f16)
    elif part == "decoder":
        ends.input(0).tensor().set_element_type(ov.Type.f16)
    return ends.build()


def cache_key(part: str, weights_key: str, precision: str) -> str:
    """The name of a compiled model: all that it depends on, as one hash."""
    code = hashlib.sha256()
    for path in sorted((Path(__file__).parent / "network").glob("*.py")):
        code.update(path.read_bytes())
    depends = {
        "part": part,
        "weights": weights_key,
        "precision": precision,
        "openvino": metadata.version("openvino"),
        "machine": [platform.system(), platform.machine()],
        "code": [code.hexdigest(), hashlib.sha256(Path(__file__).read_bytes()).hexdigest()],
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def cache_folder() -> Path:
    """Where compiled models are kept: ICHSEG_CACHE, else ``ichseg`` where this system keeps its user's caches."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given) if given else platformdirs.user_cache_path("ichseg", appauthor=False)


class CompiledCache:
    """Compiled models in a folder that nobody else can write to, each with its hash in front.

    A folder that cannot be used is no error: the model is then compiled at every start.
    """

    def __init__(self, folder: Path, most: int = MOST_COMPILED) -> None:
        self.folder = folder
        self.most = most

    def read(self, key: str) -> bytes | None:
        """What was written under a key, if it is there and whole."""
        path = self._path(key)
        try:
            if not self._is_private():
                return None
            data = path.read_bytes()
            os.utime(path)  # the least recently used goes first
        except OSError:
            return None
        digest, blob = data[:32], data[32:]
        return blob if hashlib.sha256(blob).digest() == digest else None

    def write(self, key: str, blob: bytes) -> None:
        """Keep a compiled model under a key, and drop the least recently used above the most that are kept."""
        path = self._path(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._is_private():
                _log.warning("compiled models are not kept: others can write to the cache's folder")
                return
            write_whole(path, hashlib.sha256(blob).digest() + blob)
            kept = sorted(self.folder.glob("*.blob"), key=lambda one: one.stat().st_mtime)
            for old in kept[: -self.most]:
                old.unlink(missing_ok=True)
        except (OSError, InputError) as error:
            _log.warning("compiled models are not kept (%s)", type(error).__name__)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.blob"

    def _is_private(self) -> bool:
        """Whether only this user can put a file there (what is in it is trusted)."""
        if not hasattr(os, "getuid"):
            return self.folder.is_dir()  # Windows keeps a user's folders apart itself
        state = self.folder.stat()
        return state.st_uid == os.getuid() and not state.st_mode & 0o022
