"""An adapter goes to weights/ with its hash, and is then the catalogue's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from ichseg.errors import InputError
from ichseg.methods import catalogue
from ichseg.methods import weights as weight_files
from train import export as exporting
from train.scores.runs import parts


@pytest.fixture
def run(tmp_path: Path) -> Path:
    adapter = tmp_path / "run" / "adapter"
    adapter.mkdir(parents=True)
    layer = "base_model.model.mask_decoder.transformer.layers.1.self_attn.v_proj"
    save_file(
        {
            f"{layer}.lora_A.weight": torch.ones(2, 256),
            f"{layer}.lora_B.weight": torch.ones(256, 2),
        },
        adapter / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_rslora": True, "bias": "none"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    training = {
        "inference": {"second_look": True, "crop_sides": 2.5},
        "data": {"dataset": "folder"},
    }
    (adapter / "training.json").write_text(json.dumps(training))
    return adapter.parent


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "weights"
    shutil.copytree(weight_files.WEIGHTS_DIR, folder)
    monkeypatch.setattr(weight_files, "WEIGHTS_DIR", folder)
    monkeypatch.setattr(exporting, "WEIGHTS_DIR", folder)
    monkeypatch.setattr(catalogue, "_LOADED", {})
    return folder


def test_an_exported_adapter_is_the_default_and_verified(
    run: Path, weights: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "summary.json"
    scores.write_text(json.dumps({"title": "x"}))
    folder = exporting.export(run, "litemedsam-rslora", scores)
    assert json.loads((folder / "training.json").read_text())["scores"] == {"title": "x"}
    assert catalogue.default_model() == "litemedsam-rslora"
    assert catalogue.default_baseline() == "litemedsam"
    predictor = catalogue.load_predictor(backend="torch")  # OpenVINO would compile it for seconds
    assert predictor.name == "litemedsam-rslora"
    assert predictor.second_look is True
    assert "litemedsam-rslora/adapter_model.safetensors" in predictor.weights_sha256
    with (folder / "adapter_model.safetensors").open("ab") as file:
        file.write(b"x")
    catalogue._LOADED.clear()
    with pytest.raises(catalogue.WeightsError, match="expected"):
        catalogue.load_predictor()


def test_an_unfinished_run_is_not_exported(run: Path, weights: Path) -> None:
    (run / "adapter" / "training.json").unlink()
    with pytest.raises(InputError, match=r"lacks adapter/training\.json"):
        exporting.export(run, "litemedsam-rslora")


@pytest.mark.slow
def test_a_cross_validated_run_is_exported_as_one(run: Path, weights: Path, tmp_path: Path) -> None:
    for number, patient in enumerate(("one", "two")):
        fold = tmp_path / "cv" / f"fold-{number}"
        shutil.copytree(run, fold)
        (fold / "split.json").write_text(json.dumps({"train": [], "test": [patient]}))
        (fold / "curves.png").write_bytes(b"drawn")
        (fold / "last.safetensors").write_bytes(b"a checkpoint, which stays where it is")
    folder = exporting.export(tmp_path / "cv", "mine")
    assert folder == weights / "folds" / "mine"

    everybody = SimpleNamespace(patients={"one": "iph", "two": "iph"})
    found = list(parts(everybody, run=folder))  # type: ignore[arg-type]
    assert [(name, patients) for name, _, patients in found] == [
        ("fold-0", ["one"]),
        ("fold-1", ["two"]),
    ]
    assert catalogue.load_predictor(found[1][1]).second_look is True
    listed = json.loads((weights / "manifest.json").read_text())["folds/mine"]["files"]
    assert len(listed) == 4
    for file in listed:
        assert weight_files.sha256(weights / file["path"]) == file["sha256"]
    assert not list(folder.rglob("last.safetensors"))
    assert {
        value.dtype for value in load_file(Path(found[0][1]) / "adapter_model.safetensors").values()
    } == {torch.float16}
    with pytest.raises(InputError, match="go with the model of all patients"):
        exporting.export(tmp_path / "cv", "mine", tmp_path / "summary.json")


def test_publishing_sends_the_adapter_and_the_card(
    run: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (weights / "README.md").write_text("card")
    folder = exporting.export(run, "litemedsam-rslora")
    sent: dict[str, object] = {}

    class Api:
        def create_repo(self, repo: str, exist_ok: bool) -> None:
            sent["repo"] = (repo, exist_ok)

        def upload_file(self, *, path_or_fileobj: str, path_in_repo: str, repo_id: str) -> None:
            sent["card"] = (Path(path_or_fileobj).read_text(), path_in_repo, repo_id)

        def upload_folder(
            self, *, folder_path: str, repo_id: str, allow_patterns: list[str]
        ) -> object:
            sent["files"] = sorted(
                name for name in allow_patterns if (Path(folder_path) / name).is_file()
            )
            return type("Commit", (), {"commit_url": "https://hub/someone/adapter/commit/1"})()

    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert exporting.push(folder, "someone/adapter") == "https://hub/someone/adapter/commit/1"
    assert sent["repo"] == ("someone/adapter", True)
    assert sent["card"] == ("card", "README.md", "someone/adapter")
    assert sent["files"] == sorted(exporting.ADAPTER_FILES)
