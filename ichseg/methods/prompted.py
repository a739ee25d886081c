"""Methods whose network takes a box: LiteMedSAM, SAM or MedSAM, with an adapter merged into it or without."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ichseg.methods.adapter import adapter_folder, adapter_hashes, base_of, merge_adapter
from ichseg.methods.backends import pick_backend
from ichseg.methods.bases import BASES, LITEMEDSAM_FILE, load_base, load_litemedsam
from ichseg.methods.method import Method, refuse_openvino
from ichseg.methods.openvino_backend import OpenVinoBackend
from ichseg.methods.predictor import NetworkPredictor
from ichseg.methods.torch_backend import TorchBackend
from ichseg.methods.weights import TRAINING_FILE, sha256, verified_folder

if TYPE_CHECKING:
    from ichseg.methods.backends import Backend
    from ichseg.methods.network.inference import InferenceNetwork

_log = logging.getLogger(__name__)


def load(method: Method, device: str, backend: str) -> NetworkPredictor:
    """The loader of a row whose ``weights`` are one of BASES and, if there is one, an adapter of it."""
    base, *adapters = method.weights
    adapter = verified_folder(adapters[0], method.title) if adapters else None
    return _predictor(method, base, adapter, device, backend)


def load_adapter(method: Method, device: str, backend: str) -> NetworkPredictor:
    """The loader of an adapter whose folder, or id on the hub, is the row's name."""
    adapter = adapter_folder(method.name)
    return _predictor(method, base_of(adapter), adapter, device, backend)


def _predictor(
    method: Method, base: str, adapter: Path | None, device: str, backend: str
) -> NetworkPredictor:
    settings: dict[str, Any] = {"packages": BASES[base].packages}
    if adapter is not None and (adapter / TRAINING_FILE).is_file():
        training = json.loads((adapter / TRAINING_FILE).read_text(encoding="utf-8"))
        settings |= training.get("inference", {})
    if BASES[base].has_inference_layout:
        ready, hashes = _ready_litemedsam(adapter, device, backend)
        settings["tells_blood"] = adapter is not None
    else:
        refuse_openvino(method, backend)
        network, hashes = load_base(base)
        if adapter is not None:
            hashes |= merge_adapter(network, adapter)
        ready = TorchBackend(network, device=device)
    return NetworkPredictor(ready, method.name, method.title, hashes, **settings)


def _ready_litemedsam(
    adapter: Path | None, device: str, backend: str
) -> tuple[Backend, dict[str, str]]:
    """LiteMedSAM on the back end that is asked for, and {file: sha256} of its weights."""
    # Dice with float32's masks on CT-ICH is to be 0.995 (tests/methods/test_backends.py): with an adapter bfloat16
    # behind the stem keeps that (0.997), for the un-tuned network it does not (0.988).
    bfloat16 = adapter is not None
    stem_key = sha256(verified_folder("litemedsam", "LiteMedSAM") / "model.safetensors")
    adapted = {} if adapter is None else adapter_hashes(adapter)
    hashes = {LITEMEDSAM_FILE: stem_key} | adapted
    if pick_backend(backend, device) == "openvino":
        try:
            ready: Backend = OpenVinoBackend(
                lambda: _laid_out(adapter),
                key="+".join([stem_key, *adapted.values()]),
                stem_key=stem_key,
                bfloat16=bfloat16,
            )
        except (ImportError, RuntimeError) as error:
            if backend == "openvino":
                raise
            _log.warning("OpenVINO cannot be used here (%s); torch is", type(error).__name__)
        else:
            return ready, hashes
    ready = TorchBackend(_laid_out(adapter), device=device, bfloat16=bfloat16, stem_key=stem_key)
    return ready, hashes


def _laid_out(adapter: Path | None) -> InferenceNetwork:
    """LiteMedSAM with an adapter merged into it, if there is one, laid out for use alone."""
    from ichseg.methods.network.inference import InferenceNetwork

    network, _ = load_litemedsam()
    if adapter is not None:
        merge_adapter(network, adapter)
    return InferenceNetwork(network)
