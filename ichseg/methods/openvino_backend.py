"""The back end that computes LiteMedSAM by OpenVINO on a CPU, in half of torch's time.

OpenVINO's models are made from our own torch network, and kept compiled on disk (``compiled_cache``), so that the next
start needs neither torch nor the seconds that making them takes.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import platform
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ichseg.errors import check_cancelled
from ichseg.methods.backends import Backend, HalfArray, stem_memory
from ichseg.methods.compiled_cache import CompiledCache, cache_folder
from ichseg.methods.frame import FloatArray, Framing
from ichseg.methods.once import Once

if TYPE_CHECKING:
    from ichseg.methods.network.inference import InferenceNetwork

_log = logging.getLogger(__name__)


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
        check_cancelled()
        features = self._stems.get(image, lambda: self._stem(image[None])[0])
        return self._body(features)[0]

    def decode(
        self, embedding: HalfArray, boxes_xyxy: FloatArray
    ) -> tuple[FloatArray, npt.NDArray[np.float32]]:
        logits, iou = self._decoder(embedding, boxes_xyxy)
        return logits, iou


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
    with _LOADING:
        if not _CORES:
            _CORES.append(_openvino().Core())
        return _CORES[0]


_CORES: list[Any] = []
_LOADING = threading.Lock()
_COMPILED_STEMS: dict[str, _Part] = {}
_COMPILING: Once[str, _Part] = Once()


def _shared_stem(weights_key: str, network: Callable[[], InferenceNetwork]) -> _Part:
    """The one compiled stem of all models that have these weights in it."""
    return _COMPILING.get(
        _COMPILED_STEMS, weights_key, lambda: _part("stem", weights_key, "float32", network)
    )


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
