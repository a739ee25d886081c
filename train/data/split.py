"""Division by patient into training, validation and test, and the check that none has seen another."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.data.cache import FORMAT, Prepared
from train.data.cases import DataError

Split = dict[str, Any]

#: Of a fold's other patients so many are set aside to validate: the paper's 9:1.
VALIDATION_SHARE = 0.1


def make_split(
    prepared: Prepared, folds: int, seed: int, validation_share: float = VALIDATION_SHARE
) -> dict[str, Any]:
    """Folds by patient, or (0 folds) every patient to train on and none held out."""
    if folds:
        split = dict(
            split_folds(
                prepared.patients, folds=folds, seed=seed, validation_share=validation_share
            )
        )
    else:
        everyone = {"train": sorted(prepared.patients), "validation": [], "test": []}
        split = {"method": "all patients", "seed": seed, "folds": [everyone]}
    check_leaks(split, prepared)
    return split


def split_folds(
    patients: Mapping[str, str],
    *,
    folds: int = 5,
    seed: int = 0,
    validation_share: float = VALIDATION_SHARE,
) -> Split:
    """Divide patients (name -> kind) for cross-validation: each is tested once, and never trained on then.

    Patients of each kind are shuffled and dealt to the folds in turn, so that the folds have like numbers of each
    kind. From a fold's other patients ``validation_share`` (the paper's 9:1) is set aside, by kind as well, to
    choose a checkpoint with; 0 leaves it empty. Returns what ``write_json`` can save: "folds" is a list of
    {"train", "validation", "test"}, each a sorted list of names.
    """
    if not 2 <= folds <= len(patients):
        raise DataError(
            f"Folds are at least 2 and at most the patients, {len(patients)}; got {folds}; give another number."
        )
    dealt = _deal(patients, folds, np.random.default_rng([seed, folds]))
    parts = []
    for number, test in enumerate(dealt):
        rest = {name: kind for name, kind in patients.items() if name not in test}
        validation = _set_aside(
            rest, validation_share, np.random.default_rng([seed, folds, number])
        )
        parts.append(_part(set(rest) - validation, validation, set(test)))
    return {"format": FORMAT, "method": f"{folds} folds by patient", "seed": seed, "folds": parts}


def split_nine_to_one(
    patients: Mapping[str, str], *, seed: int = 0, test: Sequence[str] = ()
) -> Split:
    """The paper's split: of the patients outside ``test``, nine parts to train on and one to validate with.

    By kind of hemorrhage; the result has one entry in "folds".
    """
    rest = {name: kind for name, kind in patients.items() if name not in set(test)}
    validation = _set_aside(rest, VALIDATION_SHARE, np.random.default_rng(seed))
    part = _part(set(rest) - validation, validation, set(test))
    return {"format": FORMAT, "method": "9:1 by patient", "seed": seed, "folds": [part]}


def check_leaks(split: Split, prepared: Prepared) -> None:
    """Raise DataError where a split lets training see what it is scored on, or does not fit the data.

    In each fold the parts share no patient and no slice with blood (the same image under two names is the same
    patient twice), and hold between them every patient. Over several folds each patient is tested once.
    """
    images: dict[str, set[str]] = defaultdict(set)
    for scan in prepared.scans.values():
        images[scan.patient_id] |= {entry.sha256 for entry in scan.slices if entry.sha256}
    for number, fold in enumerate(split["folds"]):
        parts = {name: list(fold[name]) for name in ("train", "validation", "test")}
        everyone = [patient for names in parts.values() for patient in names]
        twice = sorted({name for name in everyone if everyone.count(name) > 1})
        if twice:
            raise _leak(number, f"patient {', '.join(twice)} stands in it more than once")
        if set(everyone) != set(prepared.patients):
            odd = sorted(set(everyone) ^ set(prepared.patients))
            raise _leak(number, f"patient {', '.join(odd)} is only in one of split and data")
        seen: dict[str, tuple[str, str]] = {}
        for part, names in parts.items():
            for patient in names:
                for digest in images[patient]:
                    other = seen.setdefault(digest, (part, patient))
                    if other[0] != part:
                        raise _leak(
                            number, f"patients {other[1]} and {patient} have an image in common"
                        )
    tested = [patient for fold in split["folds"] for patient in fold["test"]]
    if len(split["folds"]) > 1 and sorted(tested) != sorted(prepared.patients):
        raise DataError(
            "In cross-validation each patient is tested once; this split does otherwise; make a new one."
        )


def _leak(fold: int, received: str) -> DataError:
    return DataError(
        f"The parts of a fold share no patient and hold each of them; in fold {fold} {received}; make a new split."
    )


def _part(train: set[str], validation: set[str], test: set[str]) -> dict[str, list[str]]:
    return {"train": sorted(train), "validation": sorted(validation), "test": sorted(test)}


def _deal(patients: Mapping[str, str], hands: int, rng: np.random.Generator) -> list[list[str]]:
    """Shuffle each kind's patients and deal them one by one, going on from kind to kind."""
    order = []
    for kind in sorted(set(patients.values())):
        names = sorted(name for name in patients if patients[name] == kind)
        order += [names[i] for i in rng.permutation(len(names))]
    return [order[hand::hands] for hand in range(hands)]


def _set_aside(patients: Mapping[str, str], share: float, rng: np.random.Generator) -> set[str]:
    """A share of the patients spread over the kinds; at least one patient with blood when share > 0."""
    if not 0 <= share <= 0.5:
        raise DataError(f"The share to set aside is from 0 to 0.5; got {share}; give e.g. 0.1.")
    if share == 0:
        return set()
    hands = round(1 / share)
    chosen = _deal(patients, hands, rng)
    with_blood = [hand for hand in chosen if any(patients[name] != "none" for name in hand)]
    return set((with_blood or chosen)[0])


def held_out_by(fold: Path) -> tuple[str, ...]:
    """The patients that a fold of a run held out."""
    return tuple(json.loads((fold / "split.json").read_text(encoding="utf-8"))["test"])


def check_same_test(adapter: Path, patients: Sequence[str]) -> None:
    """Raise DataError where an adapter's fold held out others than these patients."""
    if held_out_by(adapter) != tuple(patients):
        raise DataError(
            "Proposals and masks are by folds that held out the same patients; "
            f"{adapter.name} of '{adapter.parent.name}' held out others; train both with one --split-seed."
        )
