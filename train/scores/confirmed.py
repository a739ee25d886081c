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
from ichseg.methods.proposals import FindRule, Proposal, find
from ichseg.scan.volume import CTVolume
from train.data.cache import ScanEntry
from train.scores.proposals import Fold, folds_of, held_out_of

Mask = npt.NDArray[np.bool_]

#: What is proposed for a scan, strongest first.
Propose: TypeAlias = Callable[[ScanEntry, CTVolume], Sequence[Proposal]]

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
            InputError: a run that is not finished, or whose adapter held out other patients; no rule for a fold.

        """
        rules = json.loads(summary.read_text(encoding="utf-8"))["rules"]
        self._folds: dict[str, tuple[Fold, FindRule]] = {}
        for fold in folds_of(run, adapters):
            if fold.name not in rules:
                raise InputError(
                    f"Each fold has a rule of its own; '{summary.name}' has none for {fold.name}; run `train froc` "
                    "on all folds."
                )
            self._folds[fold.name] = fold, FindRule(**rules[fold.name])

    def identity(self, part: str) -> Mapping[str, Any]:
        """What a part's proposals come from, as JSON takes it."""
        fold, rule = self._folds[part]
        return {"finder": dict(fold.weights_sha256), "rule": asdict(rule)}

    def of(self, part: str) -> Propose:
        """What a part's finder proposes, shown to a person by its rule."""
        fold, rule = self._folds[part]

        def propose(scan: ScanEntry, volume: CTVolume) -> Sequence[Proposal]:
            return find(held_out_of(fold, scan)[0], volume, rule)

        return propose
