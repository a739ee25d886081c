"""Methods without a prompt that were trained here: what ``train baseline`` wrote, opened by its architecture."""

from __future__ import annotations

import json
from pathlib import Path

from ichseg.errors import WeightsError
from ichseg.methods.method import Method, refuse_openvino
from ichseg.methods.random_forest import RandomForestPredictor
from ichseg.methods.weights import sha256, verified_folder
from ichseg.methods.whole_slice import WholeSlicePredictor


def load(method: Method, device: str, backend: str) -> WholeSlicePredictor:
    """The loader of a row whose one entry of weights/manifest.json ``train baseline`` wrote."""
    refuse_openvino(method, backend)
    return _open(verified_folder(method.weights[0], method.title), method, device)


def load_folder(method: Method, device: str, backend: str) -> WholeSlicePredictor:
    """The loader of a model whose folder is the row's name."""
    refuse_openvino(method, backend)
    return _open(Path(method.name), method, device)


def is_trained_folder(folder: Path) -> bool:
    """Whether ``train baseline`` wrote a folder: its config.json names an architecture."""
    config = folder / "config.json"
    return config.is_file() and "architecture" in json.loads(config.read_text(encoding="utf-8"))


def _open(folder: Path, method: Method, device: str) -> WholeSlicePredictor:
    """config.json names the architecture, model.safetensors has what was learnt."""
    files = (folder / "config.json", folder / "model.safetensors")
    if not files[1].is_file():
        raise WeightsError(
            f"A trained model's folder holds config.json and model.safetensors; {folder.name} has no "
            "model.safetensors; point at a folder that train baseline finished."
        )
    hashes = {f"{folder.name}/{path.name}": sha256(path) for path in files}
    architecture = json.loads(files[0].read_text(encoding="utf-8"))["architecture"]
    if architecture == RandomForestPredictor.architecture:
        return RandomForestPredictor.from_folder(folder, method.name, method.title, hashes)
    from ichseg.methods.unets import UNetPredictor  # not above: it brings torch

    return UNetPredictor.from_folder(folder, method.name, method.title, hashes, device)
