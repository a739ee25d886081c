"""app.py with light models under the names of the networks: most tests of the page need an answer, not a good one."""

from __future__ import annotations

import hashlib
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from ichseg.methods import catalogue  # noqa: E402
from ichseg.methods.method import Method  # noqa: E402
from ichseg.methods.threshold import ThresholdPredictor  # noqa: E402

#: What the left pane's light model has in place of weights.
CODE_SHA256 = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


class LightPredictor(ThresholdPredictor):
    """A threshold in the box; the un-tuned one grows its answer, so that the panes differ."""

    def __init__(self, method: Method) -> None:
        self.name, self.title = method.name, method.title
        self.weights_sha256 = {"light": CODE_SHA256}
        self.grows_px = 0 if method.name == catalogue.default_model() else 6

    def find(self, inside_hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
        found = super().find(inside_hu)
        return ndimage.binary_dilation(found, iterations=self.grows_px) if self.grows_px else found


def load(method: Method, device: str, backend: str) -> LightPredictor:
    """As the loader of a row."""
    del device, backend
    return LightPredictor(method)


if __name__ == "__main__":
    for name in (catalogue.default_model(), catalogue.default_baseline()):
        catalogue.CATALOGUE[name] = replace(catalogue.CATALOGUE[name], load=load)
    runpy.run_path(str(ROOT / "app.py"), run_name="__main__")
