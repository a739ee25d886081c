"""How far a model's volumes were off where the answer was known: in cross-validation, and on phantoms."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ichseg.methods.catalogue import CATALOGUE, title_of
from ichseg.methods.weights import PHANTOMS_FILE, TRAINING_FILE, local, manifest

#: What a training record's data set is called for people, with what was scanned.
_DATASETS = {"ct-ich-1.0.0": "CT-ICH 1.0.0 (trauma CT)"}


@dataclass(frozen=True)
class ModelError:
    """How far a model's volumes were off on patients that it never saw: |volume - reference| / reference, in per cent.

    ``model_error`` reads it. ``assumed`` says that nobody knows whether this model made the masks.
    ``on_phantoms`` is a sentence on synthetic heads whose blood is known, empty where it was not scored on any.
    """

    model: str
    title: str
    mean_percent: float
    sd_percent: float
    patients: int
    assumed: bool = False
    dataset: str = ""
    on_phantoms: str = ""

    @property
    def figure(self) -> str:
        """The figure with what it is of.

        >>> ModelError("a", "A", 17.1, 12.9, 28).figure
        '17 % ± 13 % of the volume (mean and SD of 28 held-out patients, cross-validated, one box per slice)'
        """
        return (
            f"{self.mean_percent:.0f} % ± {self.sd_percent:.0f} % of the volume (mean and SD of {self.patients} "
            f"held-out patients{f' of {self.dataset}' if self.dataset else ''}, cross-validated, one box per slice)"
        )


def model_error(name: str) -> ModelError | None:
    """How far a model's volumes were off in cross-validation, one box per slice; None where that was not measured.

    ``train evaluate`` scores the folds, and ``train export --scores`` puts what it found into training.json. Of models
    that are not in the catalogue nothing is known: a name may come from a file's header.
    """
    entry = CATALOGUE[name].weights[-1:] if name in CATALOGUE else ()
    if not entry or entry[0] not in manifest():
        return None
    path = local(entry[0], f"{name}/{TRAINING_FILE}")
    training = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    scores = training.get("scores", {})
    found = scores.get("protocols", {}).get("slice", {}).get("patient_volume_difference")
    if found is None:
        return None
    mean, sd = (100 * found[key] for key in ("mean", "sd"))
    dataset = str(training.get("data", {}).get("dataset", ""))
    return ModelError(
        name,
        title_of(name),
        mean,
        sd,
        found["n_patients"],
        dataset=_DATASETS.get(dataset, dataset),
        on_phantoms=_on_phantoms(local(entry[0], f"{name}/{PHANTOMS_FILE}")),
    )


def _on_phantoms(path: Path | None) -> str:
    """What ``tools.phantom score --part held-out`` found of a model, as a sentence; empty without its file."""
    if path is None:
        return ""
    found = json.loads(path.read_text(encoding="utf-8"))
    bias, low, high = (
        f"{100 * found[key]:+.1f} %".replace("-", "−") for key in ("bias", "low", "high")
    )
    return (
        f"On {found['phantoms']} synthetic heads whose blood is known (parenchymal, {found['least_ml']:g} mL and more, "
        f"with the edge; nothing was chosen on them) volumes were off by {bias} on average, with 95 % limits of {low} "
        f"to {high}."
    )
