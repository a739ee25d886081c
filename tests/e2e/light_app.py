"""app.py with light models under the names of the networks: most tests of the page need an answer, not a good one."""

from __future__ import annotations

import hashlib
import os
import runpy
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from ichseg.marks.box import Box  # noqa: E402
from ichseg.methods import catalogue  # noqa: E402
from ichseg.methods.method import Method  # noqa: E402
from ichseg.methods.predictor import SliceEmbedding, SliceMasks  # noqa: E402
from ichseg.methods.threshold import ThresholdPredictor  # noqa: E402
from tests.light_finder import LightFinder, use  # noqa: E402

#: What the left pane's light model has in place of weights.
CODE_SHA256 = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


#: Set: the default model answers a box at once by half of its blood, and refines that a moment later.
REFINES = "LIGHT_REFINES"
REFINEMENT_SECONDS = 0.3


class LightPredictor(ThresholdPredictor):
    """A threshold in the box; the un-tuned one grows its answer, so that the panes differ."""

    def __init__(self, method: Method) -> None:
        self.name, self.title = method.name, method.title
        self.weights_sha256 = {"light": CODE_SHA256}
        tuned = method.name == catalogue.default_model()
        self.grows_px = 0 if tuned else 6
        self.second_look = tuned and REFINES in os.environ

    def find(self, inside_hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
        found = super().find(inside_hu)
        return ndimage.binary_dilation(found, iterations=self.grows_px) if self.grows_px else found

    def predict(
        self,
        embedding: SliceEmbedding,
        boxes: Sequence[Box] | npt.ArrayLike,
        *,
        second_look: bool | None = None,
    ) -> SliceMasks:
        found = super().predict(embedding, boxes)
        if not self.second_look:
            return found
        if second_look is False:
            rows = np.cumsum(found.masks.any(axis=2), axis=1)
            upper = rows <= rows[:, -1:] / 2
            return SliceMasks(found.masks & upper[:, :, None], found.iou)
        time.sleep(REFINEMENT_SECONDS)
        return found


def load(method: Method, device: str, backend: str) -> LightPredictor:
    """As the loader of a row."""
    del device, backend
    return LightPredictor(method)


if __name__ == "__main__":
    # The threshold is light as it is: its records are those of the command line.
    for name in [name for name in catalogue.CATALOGUE if catalogue.available(name)[0]]:
        if name == ThresholdPredictor.name:
            continue
        catalogue.CATALOGUE[name] = replace(catalogue.CATALOGUE[name], load=load)
    use(LightFinder(embedded_by=catalogue.default_baseline(), smooth_px=9, low_hu=58))
    runpy.run_path(str(ROOT / "app.py"), run_name="__main__")
