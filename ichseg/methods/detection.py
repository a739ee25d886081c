"""``load_proposals``: the finder of blood by its name, without loading torch before it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ichseg.methods.blood_finder import BloodFinder

#: The finder that ships: its entry in weights/manifest.json.
DETECTION = "litemedsam-detection"


def load_proposals(name: str | None = None, device: str = "auto") -> BloodFinder:
    """A ready finder.

    Args:
        name: an entry of weights/manifest.json that ``train proposals`` made, or a folder that it wrote; None is the
            one that ships.
        device: "auto", "cpu" or "cuda".

    Raises:
        WeightsError: no such weights, or not those that the manifest promises.

    """
    from ichseg.methods.blood_finder import load_finder  # not above: it brings torch

    return load_finder(DETECTION if name is None else name, device)
