"""Between the un-tuned network and the tuned one: a finished adapter at part of its strength.

Few patients pull a network towards their own scanner and their own reader's hand. On the straight line between the
weights before and after a fine-tune there are networks that keep what was learnt and give back some of what was
lost (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022). For LoRA the line is W + strength * s B A, so
a softened adapter is the same adapter with B scaled: whatever loads the one loads the other.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from ichseg.errors import InputError
from train.data.files import copy_file, replace_file, write_json

#: What tells of a run's training; it stays true of the softened one.
_KEPT = ("config.json", "split.json", "environment.json", "steps.csv", "epochs.csv", "curves.png")


def soften(run: Path, out: Path, strength: float) -> list[Path]:
    """Write a finished run's adapters at ``strength`` to another run's folder; return the adapters' folders.

    Args:
        run: the folder of one run, or of its folds.
        out: a folder of the same layout; what is there already is written anew.
        strength: 0 is the un-tuned network, 1 the adapter as it was trained.

    Raises:
        InputError: a strength outside 0 to 1; a run that is not finished; the same folder twice.

    """
    if not 0 <= strength <= 1:
        raise InputError(
            f"An adapter's strength lies between 0 (un-tuned) and 1 (as trained); got {strength:g}; choose one there."
        )
    if out.resolve() == run.resolve():
        raise InputError(
            f"A softened run goes into a folder of its own; got '{out.name}' twice; give another --out."
        )
    folds = sorted(run.glob("fold-*")) or [run]
    for fold in folds:
        # The curves are drawn last.
        if not (fold / "curves.png").is_file():
            raise InputError(
                f"A run is softened when it is finished; '{fold.name}' is not; resume it first."
            )
    return [_soften(fold, out / fold.name if fold != run else out, strength) for fold in folds]


def _soften(run: Path, out: Path, strength: float) -> Path:
    source, folder = run / "adapter", out / "adapter"
    folder.mkdir(parents=True, exist_ok=True)
    tensors = load_file(source / "adapter_model.safetensors")
    scaled = {
        name: value * strength if ".lora_B." in name else value for name, value in tensors.items()
    }
    replace_file(
        folder / "adapter_model.safetensors",
        lambda temporary: save_file(scaled, temporary, metadata={"format": "pt"}),
    )
    config = "adapter_config.json"
    copy_file(source / config, folder / config)
    training = json.loads((source / "training.json").read_text(encoding="utf-8"))
    training["strength"] = strength * training.get("strength", 1.0)
    write_json(folder / "training.json", training)
    for name in _KEPT:
        if (run / name).is_file():
            copy_file(run / name, out / name)
    return folder
