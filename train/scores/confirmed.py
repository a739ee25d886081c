"""The proposals that a person who knows the reference mask would accept, each scan's by a finder that never saw it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ichseg.errors import InputError
from ichseg.methods.blood_finder import EMBEDDED_BY, BloodFinder
from ichseg.methods.catalogue import load_predictor
from ichseg.methods.detection import load_proposals
from ichseg.methods.proposals import FindRule, Proposal, find
from ichseg.scan.slabs import hu_of
from ichseg.scan.volume import CTVolume
from train.data.split import check_same_test

Mask = npt.NDArray[np.bool_]

#: What is proposed for a scan, strongest first.
Propose: TypeAlias = Callable[[CTVolume], Sequence[Proposal]]

#: A person is taken to accept a proposal of which this share is blood, and of that blood this share not yet marked.
CONFIRMED_SHARE = 0.5


def confirmed(proposals: Sequence[Proposal], reference: Mask, marked: Mask) -> list[Proposal]:
    """The proposals that a person who knows the reference mask would accept beside what is marked already."""
    out = []
    for one in proposals:
        region = one.region_zyx(reference.shape)
        blood = region & reference
        new = np.count_nonzero(blood & ~marked)
        if (
            blood.any()
            and np.count_nonzero(blood) >= CONFIRMED_SHARE * np.count_nonzero(region)
            and new >= CONFIRMED_SHARE * np.count_nonzero(blood)
        ):
            out.append(one)
    return out


class Finders:
    """The folds of a run of ``train proposals``, each with the rule that was chosen for it on the others."""

    def __init__(self, run: Path, summary: Path, adapters: Path) -> None:
        """Take a run's folder, the summary.json that ``train froc`` wrote of it, and the adapters' run.

        Raises:
            InputError: no rule for a fold, or a fold whose adapter held out other patients.

        """
        rules = json.loads(summary.read_text(encoding="utf-8"))["rules"]
        self._folds: dict[str, tuple[BloodFinder, FindRule]] = {}
        for folder in sorted(run.glob("fold-*")):
            check_same_test(folder, adapters / folder.name)
            if folder.name not in rules:
                raise InputError(
                    f"Each fold has a rule of its own; '{summary.name}' has none for {folder.name}; run `train froc` "
                    "on all folds."
                )
            rule = FindRule(**rules[folder.name])
            self._folds[folder.name] = load_proposals(str(folder / "model")), rule

    def identity(self, part: str) -> Mapping[str, Any]:
        """What a part's proposals come from, as JSON takes it."""
        finder, rule = self._folds[part]
        return {"finder": dict(finder.weights_sha256), "rule": asdict(rule)}

    def of(self, part: str) -> Propose:
        """What a part's finder proposes, shown to a person by its rule."""
        finder, rule = self._folds[part]
        base = load_predictor(EMBEDDED_BY)

        def propose(volume: CTVolume) -> Sequence[Proposal]:
            chance = finder.probabilities(volume, lambda where: base.embed(hu_of(volume, where)))
            return find(chance, volume, rule)

        return propose
