"""The methods that take no box learn, resume exactly, and save what the application opens."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from ichseg.errors import InputError
from ichseg.marks.box import Box
from ichseg.methods import catalogue
from ichseg.methods import weights as weight_files
from ichseg.methods.catalogue import load_predictor
from ichseg.methods.random_forest import FEATURES
from tests.train.scans import write_scan
from train import export as exporting
from train.__main__ import app
from train.baselines import one_cycle, train_baseline
from train.data.cache import Prepared, prepare
from train.data.slices import native_slices
from train.recipes import METHODS, ForestConfig, NetworkConfig, configuration
from train.scores.protocols import PROTOCOLS
from train.scores.runs import evaluate_run

#: Seconds on one core: three narrow levels, and blood that is easy to tell.
SMALL = NetworkConfig("unet", channels=(4, 8, 16), epochs=4, batch=2, learning_rate=1e-2)
FOREST = ForestConfig(trees=6, leaves=16, pixels=60, inner_folds=2)
PATIENTS = {"ann": (40, 40, 10), "bob": (52, 36, 8), "cyd": (36, 54, 12), "dee": (50, 52, 9)}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Four heads of six slices of 88 x 88, a disc of blood on the first two of each."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    x, y, z = np.mgrid[:88, :88, :6]
    radius = np.hypot(x - 44, y - 44)
    for name, (cx, cy, size) in PATIENTS.items():
        blood = (np.hypot(x - cx, y - cy) < size) & (z < 2)
        hu = np.where(radius < 40, 900, -1000)
        hu[radius < 36] = 35
        hu[blood] = 68
        write_scan(root, name, hu + rng.normal(0, 2, hu.shape), blood)
    return prepare("folder", root, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def split() -> dict[str, Any]:
    part = {"train": ["ann", "bob"], "validation": ["cyd"], "test": ["dee"]}
    return {"method": "by hand", "seed": 0, "folds": [part]}


@pytest.fixture(scope="module")
def network_run(
    prepared: Prepared, split: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("runs") / "unet" / "fold-0"
    assert train_baseline(SMALL, prepared, split, 0, out, device="cpu") == out / "model"
    return out


@pytest.fixture(scope="module")
def forest_run(
    prepared: Prepared, split: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("runs") / "forest" / "fold-0"
    train_baseline(FOREST, prepared, split, 0, out)
    return out


def dice_on(prepared: Prepared, patient: str, model: Path) -> float:
    """The Dice over a patient's slices with blood, boxes from the reference mask."""
    predictor = load_predictor(str(model))
    overlap = total = 0
    for item in native_slices(prepared, [patient]):
        mask = predictor.predict(predictor.embed(item.slice_hu), [item.slice_box]).union
        overlap += 2 * np.count_nonzero(mask & item.mask)
        total += np.count_nonzero(mask) + np.count_nonzero(item.mask)
    return overlap / total


def test_the_loss_falls_and_the_run_folder_is_whole(network_run: Path) -> None:
    rows = [line.split(",") for line in (network_run / "steps.csv").read_text().splitlines()]
    assert rows[0] == ["step", "epoch", "learning_rate", "loss", "seconds"]
    losses = [float(row[3]) for row in rows[1:]]
    assert len(losses) == 12  # 4 slices with blood and 1 without in pairs, 4 epochs
    assert np.mean(losses[-3:]) < 0.85 * np.mean(losses[:3])
    epochs = (network_run / "epochs.csv").read_text().splitlines()
    assert "validation_dice" in epochs[0] and len(epochs) == 5
    assert (network_run / "curves.png").read_bytes().startswith(b"\x89PNG")
    described = json.loads((network_run / "config.json").read_text())
    assert described["architecture"] == "unet" and described["examples"]["negative_share"] == 0.25
    assert json.loads((network_run / "split.json").read_text())["test"] == ["dee"]
    assert not list(network_run.rglob(".*"))


def test_a_trained_network_opens_in_the_application(network_run: Path) -> None:
    predictor = load_predictor(str(network_run / "model"))
    assert predictor.takes_box is False
    assert set(predictor.weights_sha256) == {"model/config.json", "model/model.safetensors"}
    tensors = load_file(network_run / "model" / "model.safetensors")
    assert {t.dtype for t in tensors.values() if t.ndim > 1} == {torch.float16}
    assert {t.dtype for n, t in tensors.items() if n.endswith("running_var")} == {torch.float32}
    hu = np.full((88, 88), 35.0)
    assert predictor.predict(predictor.embed(hu), [Box(1, 1, 80, 80)]).masks.shape == (1, 88, 88)


def test_a_resumed_run_has_the_weights_of_one_never_stopped(
    network_run: Path,
    prepared: Prepared,
    split: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "stopped"
    monkeypatch.setattr("train.loop.SAVE_EVERY_S", 0.0)
    for stop in (3, 7, None):  # at an epoch's end, within another, to the end
        train_baseline(
            SMALL, prepared, split, 0, out, resume=True, device="cpu", stop_after_steps=stop
        )
        assert (out / "curves.png").exists() == (stop is None)
    whole, resumed = (load_file(run / "model" / "model.safetensors") for run in (network_run, out))
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    columns = [line.split(",")[:4] for line in (out / "steps.csv").read_text().splitlines()]
    whole_rows = (network_run / "steps.csv").read_text().splitlines()
    assert columns == [line.split(",")[:4] for line in whole_rows]


def test_a_checkpoint_of_before_the_one_loop_resumes(
    network_run: Path, prepared: Prepared, split: dict[str, Any], tmp_path: Path
) -> None:
    """It held the metrics alone, after whole epochs; the data's hash stood in config.json."""
    train_baseline(SMALL, prepared, split, 0, tmp_path, device="cpu", stop_after_steps=6)
    path = tmp_path / "last.safetensors"
    with safe_open(path, framework="pt") as file:
        position = json.loads(file.metadata()["position"])
    assert position["step"] == 6
    metrics = {"steps": position["steps"], "epochs": position["epochs"]}
    save_file(load_file(path), path, metadata={"metrics": json.dumps(metrics)})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"data_sha256": prepared.sha256}))
    train_baseline(SMALL, prepared, split, 0, tmp_path, resume=True, device="cpu")
    whole, resumed = (
        load_file(run / "model" / "model.safetensors") for run in (network_run, tmp_path)
    )
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_the_forest_learns_blood_from_other_heads(prepared: Prepared, forest_run: Path) -> None:
    assert dice_on(prepared, "dee", forest_run / "model") > 0.9
    rows = (forest_run / "cutoffs.csv").read_text().splitlines()
    assert rows[0] == "cutoff,dice" and len(rows) == 20
    best = max((line.split(",") for line in rows[1:]), key=lambda row: float(row[1]))
    config = json.loads((forest_run / "model" / "config.json").read_text())
    assert config == {
        "architecture": "random-forest",
        "features": list(FEATURES),
        "cutoff": float(best[0]),
    }
    assert (forest_run / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_growing_again_gives_the_same_forest(
    prepared: Prepared, split: dict[str, Any], forest_run: Path, tmp_path: Path
) -> None:
    again = train_baseline(FOREST, prepared, split, 0, tmp_path / "again")
    name = "model.safetensors"
    assert (again / name).read_bytes() == (forest_run / "model" / name).read_bytes()


def test_a_run_on_every_patient_has_nobody_to_validate_with(
    prepared: Prepared, tmp_path: Path
) -> None:
    everyone = {"train": sorted(PATIENTS), "validation": [], "test": []}
    split = {"method": "all patients", "seed": 0, "folds": [everyone]}
    config = dataclasses.replace(SMALL, epochs=1, channels=(2, 4))
    model = train_baseline(config, prepared, split, 0, tmp_path / "final", device="cpu")
    assert (model / "model.safetensors").is_file()
    assert ",nan," in (tmp_path / "final" / "epochs.csv").read_text()


def test_a_cross_validated_run_is_scored_on_whom_it_never_saw(
    prepared: Prepared, forest_run: Path, tmp_path: Path
) -> None:
    rows, _ = evaluate_run(
        prepared, tmp_path, [PROTOCOLS["slice"]], run=forest_run.parent, paper=False
    )
    assert {row.patient for row in rows} == {"dee"}
    assert len(rows) == 2 and min(row.dice for row in rows) > 0.9


def test_an_exported_model_is_in_the_catalogue_and_verified(
    forest_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(weight_files.WEIGHTS_DIR, weights, ignore=shutil.ignore_patterns("litemedsam"))
    for module in (weight_files, exporting):
        monkeypatch.setattr(module, "WEIGHTS_DIR", weights)
    monkeypatch.setattr(catalogue, "_LOADED", {})
    scores = tmp_path / "summary.json"
    scores.write_text('{"title": "x"}')
    folder = exporting.export(forest_run, "random-forest", scores)
    assert sorted(path.name for path in folder.iterdir()) == sorted(exporting.MODEL_FILES)
    training = json.loads((folder / "training.json").read_text())
    assert training["scores"] == {"title": "x"} and training["split"]["test"] == ["dee"]
    assert catalogue.available("random-forest") == (True, "")
    assert load_predictor("random-forest").title == "Random forest"
    config = json.loads((folder / "config.json").read_text()) | {"cutoff": 0.01}
    (folder / "config.json").write_text(json.dumps(config))
    catalogue._LOADED.clear()
    with pytest.raises(catalogue.WeightsError, match=r"expected .* random-forest/config\.json"):
        load_predictor("random-forest")


def test_an_unfinished_model_is_not_exported(network_run: Path, tmp_path: Path) -> None:
    shutil.copytree(network_run, tmp_path / "run")
    (tmp_path / "run" / "model" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"lacks model/model\.safetensors"):
        exporting.export(tmp_path / "run", "unet")


def test_a_run_is_not_overwritten_or_mixed(
    network_run: Path, prepared: Prepared, split: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="folder of its own"):
        train_baseline(SMALL, prepared, split, 0, network_run)
    other = dataclasses.replace(SMALL, epochs=9)
    with pytest.raises(InputError, match="it began with"):
        train_baseline(other, prepared, split, 0, network_run, resume=True)


def test_the_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    rates = [one_cycle(step, 100, 0.01) for step in range(100)]
    assert max(rates) == rates[25] == 0.01
    assert (np.diff(rates[:26]) > 0).all() and (np.diff(rates[25:]) < 0).all()
    assert 0 < rates[0] < 0.001 and 0 < rates[-1] < 1e-5
    assert rates[25 + 25] == pytest.approx(0.01 * (1 + math.cos(math.pi / 3)) / 2)


def test_each_method_has_a_configuration() -> None:
    assert METHODS == ("random-forest", "unet", "resattunet", "drunet")
    assert configuration("random-forest") == ForestConfig()
    assert configuration("drunet", epochs=2) == NetworkConfig("drunet", epochs=2)
    with pytest.raises(InputError, match="resattunet, drunet; got 'v-net'"):
        configuration("v-net")


def test_the_command_trains_the_folds_asked_for(prepared: Prepared, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["baseline", "--method", "random-forest", "--data", str(prepared.folder)]
    arguments += ["--out", str(out), "--folds", "2", "--fold", "1"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["fold-1", "split.json"]
    held_out = json.loads((out / "fold-1" / "split.json").read_text())["test"]
    assert held_out == json.loads((out / "split.json").read_text())["folds"][1]["test"]
    done = (out / "fold-1" / "curves.png").stat().st_mtime_ns
    CliRunner().invoke(app, [*arguments, "--resume"], catch_exceptions=False)
    assert (out / "fold-1" / "curves.png").stat().st_mtime_ns == done
