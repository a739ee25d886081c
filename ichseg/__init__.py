"""From a box on a head CT to a hematoma in millilitres: the library behind the page.

``import ichseg`` is light: each name below is fetched when it is first used, so that a script that
only measures never loads torch. Arrays are [z, y, x], z from foot to head, y from anterior to
posterior, x from the patient's right to left; slices are numbered from 0.

Research software. Not a medical device. Not for clinical use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ichseg.cohort.one import segment
    from ichseg.files.nifti_mask import write_mask
    from ichseg.measures.suggest import suggest
    from ichseg.measures.volume import volume_ml
    from ichseg.methods.catalogue import load_predictor
    from ichseg.methods.propagation import propagate
    from ichseg.scan.read import read_volume

__version__ = "0.2.0"

#: Stands on the page and in every file that leaves the program.
NOTICE = "Research software. Not a medical device. Not for clinical use."

__all__ = [
    "NOTICE",
    "__version__",
    "load_predictor",
    "propagate",
    "read_volume",
    "segment",
    "suggest",
    "volume_ml",
    "write_mask",
]

_HOME = {
    "load_predictor": "ichseg.methods.catalogue",
    "propagate": "ichseg.methods.propagation",
    "read_volume": "ichseg.scan.read",
    "segment": "ichseg.cohort.one",
    "suggest": "ichseg.measures.suggest",
    "volume_ml": "ichseg.measures.volume",
    "write_mask": "ichseg.files.nifti_mask",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ichseg' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
