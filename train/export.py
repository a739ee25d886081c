"""What a run trained into weights/, with its hash in the manifest, and onto the hub where asked."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from ichseg.errors import InputError
from ichseg.models import WEIGHTS_DIR, record_weights
from train.dataset import write_json

#: What a run's folder holds of its result: an adapter, or the whole model of a method that is none.
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "training.json")
MODEL_FILES = ("config.json", "model.safetensors", "training.json")
LICENCE = "Apache-2.0; trained on CT-ICH 1.0.0 (CC BY 4.0, Hssayeni et al., PhysioNet)"


def export(run: Path, name: str, scores: Path | None = None) -> Path:
    """Copy a finished run's adapter or model to weights/NAME and record its hash; return that folder.

    ``scores`` is a summary.json of ``evaluate``: its figures are kept in training.json, beside what made them.
    """
    source, files = run / "adapter", ADAPTER_FILES
    if (run / "model").is_dir():
        source, files = run / "model", MODEL_FILES
    missing = [file for file in files if not (source / file).is_file()]
    if missing:
        raise InputError(
            f"A run is exported when it is finished; '{run.name}' lacks {source.name}/{missing[0]}; resume it first."
        )
    folder = WEIGHTS_DIR / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in files[:2]:
        temporary = folder / f".{file}.part"
        shutil.copyfile(source / file, temporary)
        os.replace(temporary, folder / file)
    training = json.loads((source / "training.json").read_text())
    if scores is not None:
        training["scores"] = json.loads(scores.read_text())
    write_json(folder / "training.json", training)
    record_weights(
        name,
        [folder / file for file in files[:2]],
        source=f"train export of a run on {training['data']['dataset']} (training.json)",
        licence=LICENCE,
    )
    return folder


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
