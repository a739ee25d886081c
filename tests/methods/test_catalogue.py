"""The catalogue: weights are found, verified and never a pickle."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ichseg.errors import WeightsError
from ichseg.methods import adapter, bases, catalogue
from ichseg.methods import weights as weight_files
from ichseg.methods.catalogue import available, load_predictor

#: Weights that are too large for the repository, and whose hash cannot be known before they are fetched.
UNLISTED = ("sam", "medsam")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder of its own, with nothing loaded yet and the hub out of reach."""
    shutil.copytree(weight_files.WEIGHTS_DIR, tmp_path / "weights")
    monkeypatch.setattr(weight_files, "WEIGHTS_DIR", tmp_path / "weights")
    monkeypatch.setattr(catalogue, "_LOADED", {})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "weights"


def test_every_weight_file_is_in_the_manifest_and_whole() -> None:
    manifest = json.loads((weight_files.WEIGHTS_DIR / "manifest.json").read_text())
    listed = {file["path"]: file for entry in manifest.values() for file in entry["files"]}
    there = {
        path.relative_to(weight_files.WEIGHTS_DIR).as_posix()
        for path in weight_files.WEIGHTS_DIR.rglob("*.safetensors")
        if path.parent.name not in UNLISTED  # what a person put there
    }
    assert there == {path for path in listed if path.endswith(".safetensors")}
    for path, file in listed.items():
        assert weight_files.sha256(weight_files.WEIGHTS_DIR / path) == file["sha256"]
        assert (weight_files.WEIGHTS_DIR / path).stat().st_size == file["bytes"]
    for entry in manifest.values():
        assert entry["licence"] and entry["source"]
    pickles = [
        path
        for path in weight_files.WEIGHTS_DIR.rglob("*")
        if path.suffix in {".pth", ".pt", ".bin"}
    ]
    assert not pickles


def test_a_changed_weight_file_is_refused(weights: Path) -> None:
    path = weights / "litemedsam" / "model.safetensors"
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(
        WeightsError, match=r"expected [0-9a-f]{64} for .*, got [0-9a-f]{64}; delete"
    ):
        load_predictor("litemedsam")


def test_a_missing_weight_file_says_where_to_put_it(weights: Path) -> None:
    (weights / "litemedsam" / "model.safetensors").unlink()
    assert available("litemedsam")[0] is False
    with pytest.raises(WeightsError, match=r"weights/litemedsam/model\.safetensors"):
        load_predictor("litemedsam")


def test_offline_the_hub_is_named_with_the_file_to_put_where(weights: Path) -> None:
    (weights / "litemedsam" / "model.safetensors").unlink()
    manifest = json.loads((weights / "manifest.json").read_text())
    manifest["litemedsam"]["hub_repo"] = "someone/litemedsam"
    (weights / "manifest.json").write_text(json.dumps(manifest))
    began = time.monotonic()
    with pytest.raises(WeightsError) as error:
        load_predictor("litemedsam")
    assert time.monotonic() - began < 12
    assert "someone/litemedsam" in str(error.value)
    assert "weights/litemedsam/model.safetensors" in str(error.value)


def test_the_hub_cache_is_looked_in_before_the_hub(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = weights / "litemedsam" / "model.safetensors"
    cached = weights.parent / "cache" / "model.safetensors"
    cached.parent.mkdir()
    original.rename(cached)
    manifest = json.loads((weights / "manifest.json").read_text())
    manifest["litemedsam"]["hub_repo"] = "someone/litemedsam"
    (weights / "manifest.json").write_text(json.dumps(manifest))
    import huggingface_hub

    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda repo, file, revision: str(cached)
    )
    assert available("litemedsam") == (True, "")
    assert load_predictor("litemedsam").weights_sha256


def test_an_unknown_name_lists_the_known_ones(weights: Path) -> None:
    with pytest.raises(WeightsError, match=r"litemedsam.*threshold.*got 'nonsense'"):
        load_predictor("nonsense")


def test_a_model_is_loaded_once_and_shared() -> None:
    assert load_predictor("litemedsam") is load_predictor("litemedsam")


def test_the_default_is_the_best_that_is_there(weights: Path) -> None:
    manifest = json.loads((weights / "manifest.json").read_text())
    manifest.pop("litemedsam-rslora", None)
    (weights / "manifest.json").write_text(json.dumps(manifest))
    assert (catalogue.default_model(), catalogue.default_baseline()) == ("litemedsam", "threshold")
    assert "not published yet" in available("litemedsam-rslora")[1]


def _adapter(folder: Path, tensors: dict[str, torch.Tensor], **config: object) -> Path:
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_rslora": True, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(settings | config))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


LAYER = "base_model.model.mask_decoder.transformer.layers.0.self_attn.q_proj"


def test_an_adapter_is_loaded_by_its_folder(tmp_path: Path) -> None:
    down, up = torch.ones(2, 256), torch.ones(256, 2)
    folder = _adapter(
        tmp_path / "mine", {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}
    )
    tuned = load_predictor(str(folder), backend="torch")  # OpenVINO would compile it for seconds
    assert tuned.title == "mine"
    assert set(tuned.weights_sha256) == {
        "litemedsam/model.safetensors",
        "mine/adapter_config.json",
        "mine/adapter_model.safetensors",
    }
    network, _ = bases.load_litemedsam()
    before = network.mask_decoder.transformer.layers[0].self_attn.q_proj.weight.clone()
    adapter.merge_adapter(network, folder)
    after = network.mask_decoder.transformer.layers[0].self_attn.q_proj.weight
    # W + (alpha / sqrt(r)) B A, and B A is 2 everywhere
    np.testing.assert_allclose((after - before).detach(), 4 / 2**0.5 * 2, rtol=1e-5)


def test_an_adapter_for_another_network_is_refused(tmp_path: Path) -> None:
    tensors = {"base_model.model.vision.q.lora_A.weight": torch.ones(2, 4)}
    with pytest.raises(WeightsError, match=r"vision\.q"):
        load_predictor(str(_adapter(tmp_path / "other", tensors)))
    with pytest.raises(WeightsError, match="plain LoRA"):
        load_predictor(str(_adapter(tmp_path / "dora", tensors, use_dora=True)))


def test_a_folder_without_an_adapter_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"adapter_config\.json"):
        load_predictor(str(tmp_path))


def test_an_adapter_on_the_hub_is_an_error_that_helps_when_offline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub

    def unreachable(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(WeightsError, match=r"'someone/adapter'.*could not be fetched \(OSError\)"):
        load_predictor("someone/adapter")
