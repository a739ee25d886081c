"""Masks of proposals that nobody accepted but the program: what is said of them wherever they are told of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ichseg.json_fields import RecordError, json_field
from ichseg.methods.weights import TRAINING_FILE, local, manifest

#: The most lesions that a record may tell of; a mask has 255.
_MOST_LESIONS = 255


@dataclass(frozen=True)
class Automatic:
    """How lesions came about that no person marked."""

    finder: str
    """The name of the finder that proposed them."""
    weights_sha256: Mapping[str, str] = field(default_factory=dict)
    """{file: hash} of its weights."""
    scores: Mapping[int, float] = field(default_factory=dict)
    """{lesion: how sure the finder was, 0 to 1}; empty where nothing was taken."""

    @property
    def sentence(self) -> str:
        """That nobody marked or checked them."""
        count = len(self.scores)
        what = "nothing" if not count else "1 lesion" if count == 1 else f"{count} lesions"
        return (
            f"Automatic: no person marked or checked what is counted here. The program proposed and took {what} by "
            "itself; it may have missed blood, and may have taken other tissue for blood."
        )

    @property
    def error(self) -> str:
        """How good such masks were on patients that the finder never saw, in a sentence (``detection_error``)."""
        return detection_error(self.finder)

    @property
    def notes(self) -> tuple[str, ...]:
        """Both sentences."""
        return self.sentence, self.error

    def record(self) -> dict[str, Any]:
        """For a JSON document: ``finder``, ``weights_sha256``, ``lesions`` ({lesion, score}), ``notes``."""
        return {
            "finder": self.finder,
            "weights_sha256": dict(self.weights_sha256),
            "lesions": [
                {"lesion": lesion, "score": float(score)} for lesion, score in self.scores.items()
            ],
            "notes": list(self.notes),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Automatic:
        """What ``record`` wrote. Raises RecordError for a field that is missing or of another kind."""
        where = "its account of automatic lesions"
        files = json_field(record, "weights_sha256", "an object", where)
        rows = json_field(record, "lesions", "a list", where)
        if len(rows) > _MOST_LESIONS:
            raise RecordError(f"{where} has {len(rows):,} lesions, more than {_MOST_LESIONS}")
        scores = {
            json_field(row, "lesion", "a whole number", where): float(
                json_field(row, "score", "a number", where)
            )
            for row in rows
        }
        finder: str = json_field(record, "finder", "text", where)
        return cls(finder, {str(file): str(sha) for file, sha in files.items()}, scores)


def detection_error(finder: str) -> str:
    """How good automatic masks were in cross-validation, in a sentence; that it was not measured where that is so.

    ``train froc`` scores the folds; what it found stands in the training.json of the weights, under "scores".
    """
    found = _scores(finder)
    if "automatic_dice" not in found:
        return "How good automatic masks are was not measured with this finder."
    dice = found["automatic_dice"]
    more = ""
    if (share := found.get("sensitivity_at_2_false_a_scan")) is not None:
        more += f"; {100 * share:.0f} % of lesions found at 2 false proposals a scan"
    if (clean := found.get("clean_scans_false_ml")) is not None:
        more += (
            f"; on scans without blood {clean['mean']:.1f} mL were taken for blood on average, "
            f"{clean['highest']:.1f} mL at most"
        )
    return (
        f"Cross-validated on {found['patients_with_blood']} patients with blood that it never saw, nobody asked: "
        f"Dice of the whole hematoma {dice['mean']:.2f} ± {dice['sd']:.2f}{more}."
    )


def _scores(finder: str) -> Mapping[str, Any]:
    if finder not in manifest():  # a name may come from a file
        return {}
    path = local(finder, f"{finder}/{TRAINING_FILE}")
    training = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    scores: Mapping[str, Any] = training.get("scores", {})
    return scores
