"""The table of the finders of blood, and ``load_proposals``: a finder by its name, without loading torch till then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ichseg.methods.once import Once
from ichseg.methods.weights import missing

if TYPE_CHECKING:
    from ichseg.methods.blood_finder import BloodFinder


def _load(name: str, device: str) -> BloodFinder:
    from ichseg.methods.blood_finder import load_finder  # not above: it brings torch

    return load_finder(name, device)


@dataclass(frozen=True)
class Detection:
    """One finder: its name and title, the entries of weights/manifest.json that it needs, and its loader."""

    name: str
    title: str
    weights: tuple[str, ...]
    load: Callable[[str, str], BloodFinder] = _load
    """Of a name and a device."""
    embedded_by: str = "litemedsam-rslora"
    """The method of the catalogue whose embeddings it reads (``BloodFinder.embedded_by``)."""


#: The finder that ships: its entry in weights/manifest.json.
DETECTION = "litemedsam-detection"

#: By name.
DETECTIONS = {
    one.name: one
    for one in (Detection(DETECTION, "LiteMedSAM's detection of blood", (DETECTION,)),)
}


def load_proposals(name: str | None = None, device: str = "auto") -> BloodFinder:
    """A ready finder, shared by all who ask for the same one.

    Args:
        name: one of DETECTIONS, another entry of weights/manifest.json that ``train proposals`` made, or a folder that
            it wrote; None is the one that ships.
        device: "auto", "cpu" or "cuda".

    Raises:
        WeightsError: no such weights, or not those that the manifest promises.

    """
    name = DETECTION if name is None else name
    if name not in DETECTIONS:  # a folder may be written again
        return _load(name, device)
    row = DETECTIONS[name]
    return _LOADING.get(_LOADED, (row, device), lambda: row.load(name, device))


def no_proposals() -> str:
    """Why the finder that ships cannot be loaded here, in a sentence; empty where it can."""
    row = DETECTIONS[DETECTION]
    return missing(row.weights, row.title)


_LOADED: dict[tuple[Detection, str], BloodFinder] = {}
_LOADING: Once[tuple[Detection, str], BloodFinder] = Once()
