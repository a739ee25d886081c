"""What a kept score came from: one key over the model's identity, the data, the code that scored, and the question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from ichseg.methods.identity import identity_of
from ichseg.methods.predictor import Predictor
from train.dataset import Prepared

#: The modules that decide every score; a cache names its own beside them. A comment that changes, changes the key.
SCORING = ("cases.py", "dataset.py", "evaluate.py", "metrics.py")


def cache_key(
    predictor: Predictor,
    prepared: Prepared,
    *,
    refinement: bool | None = None,
    code: tuple[str, ...] = (),
    asked: Mapping[str, Any],
) -> str:
    """A key that equal scores have alone.

    Args:
        predictor: the model; all of its identity counts, the library's sources among it.
        prepared: the data, by their hash.
        refinement: as the model is asked, None by its own setting.
        code: modules of this package that decide the score, beside SCORING.
        asked: how it is asked and scored, as JSON takes it.

    """
    told = {
        "identity": identity_of(predictor, refinement=refinement).sha256,
        "data": prepared.sha256,
        "code": _code((*SCORING, *code)),
        "asked": asked,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


@cache
def _code(names: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name in sorted(names):
        source = (resources.files("train") / name).read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{name} {len(source)}\n".encode() + source)
    return digest.hexdigest()
