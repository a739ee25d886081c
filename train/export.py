"""What runs trained into weights/, with its hash in the manifest, and onto the hub where asked."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ichseg.errors import InputError
from ichseg.methods.weights import WEIGHTS_DIR, record_weights
from train.data.files import copy_file, replace_file, write_json

#: What a run's folder holds of its result: an adapter, or the whole model of a method that is none.
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "training.json")
MODEL_FILES = ("config.json", "model.safetensors", "training.json")
LICENCE = "Apache-2.0; trained on CT-ICH 1.0.0 (CC BY 4.0, Hssayeni et al., PhysioNet)"
#: Where a cross-validated run goes below weights/, so that its scores can be made again without training.
FOLDS = "folds"
#: What a fold keeps beside its result: who was held out, and how it went.
_FOLD_FILES = ("split.json", "epochs.csv", "curves.png")


def export(run: Path, name: str, scores: Path | None = None) -> Path:
    """Copy a finished run's result to weights/NAME and record its hash; return that folder.

    An adapter is stored in half precision, half the size. A cross-validated run goes to weights/folds/NAME, laid out
    as a run, so that whatever takes one takes that. ``scores`` is a summary.json of ``evaluate`` or ``froc``: its
    figures are kept in training.json, beside what made them, and the rule of proposals in config.json.

    Raises:
        InputError: a run that is not finished; scores with the folds, which have one each.

    """
    folds = sorted(run.glob("fold-*"))
    if folds and scores is not None:
        raise InputError(
            f"Scores of a cross-validated run go with the model of all patients; got both for '{run.name}'; leave "
            "--scores to that one."
        )
    sources = [_source(folder) for folder in folds or [run]]
    folder = WEIGHTS_DIR / (f"{FOLDS}/{name}" if folds else name)
    recorded: list[Path] = []
    for fold, (source, files) in zip(folds or [run], sources, strict=True):
        target = folder / fold.name / source.name if folds else folder
        recorded += _copy(source, target, files)
        if folds:
            for file in _FOLD_FILES:
                if (fold / file).is_file():
                    copy_file(fold / file, target.parent / file)
    training = json.loads((sources[0][0] / "training.json").read_text(encoding="utf-8"))
    if scores is not None:
        found = json.loads(scores.read_text(encoding="utf-8"))
        if (
            "rule" in found
        ):  # of proposals: chosen on the folds, for what is trained on all patients
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            write_json(folder / "config.json", config | {"rule": found["rule"]})
        write_json(folder / "training.json", training | {"scores": found})
    record_weights(
        folder.relative_to(WEIGHTS_DIR).as_posix(),
        recorded,
        source=f"train export of a run on {training['data']['dataset']} (training.json)",
        licence=LICENCE,
    )
    return folder


def _source(run: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder of a finished run's result, and its files."""
    source, files = run / "adapter", ADAPTER_FILES
    if (run / "model").is_dir():
        source, files = run / "model", MODEL_FILES
    missing = [file for file in files if not (source / file).is_file()]
    if missing:
        raise InputError(
            f"A run is exported when it is finished; '{run.name}' lacks {source.name}/{missing[0]}; resume it first."
        )
    return source, files


def _copy(source: Path, target: Path, files: tuple[str, ...]) -> list[Path]:
    """Copy a result, whole files or none, an adapter's matrices as float16; return what is to be hashed."""
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        if file == "adapter_model.safetensors":
            _copy_half(source / file, target / file)
        else:
            copy_file(source / file, target / file)
    return [target / file for file in files[:2]]


def _copy_half(source: Path, target: Path) -> None:
    half = {name: value.to(torch.float16) for name, value in load_file(source).items()}
    replace_file(target, lambda part: save_file(half, part, {"format": "pt"}))


def push(folder: Path, repo: str) -> str:
    """Publish an exported adapter with weights/README.md as its card; return its address.

    Needs a token of the Hugging Face hub (`hf auth login`).
    """
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repo, exist_ok=True)
    api.upload_file(
        path_or_fileobj=str(WEIGHTS_DIR / "README.md"), path_in_repo="README.md", repo_id=repo
    )
    commit = api.upload_folder(
        folder_path=str(folder), repo_id=repo, allow_patterns=[*ADAPTER_FILES, *MODEL_FILES[:2]]
    )
    return str(commit.commit_url)
