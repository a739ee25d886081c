"""Fuzzy c-means in the box: soft clustering of brightness alone, as hemorrhage was segmented before learning.

The clustering is that of Bezdek, "Pattern Recognition with Fuzzy Objective Function Algorithms" (1981). Scikit-fuzzy
has it too, but draws its start at random; here it is a few lines of numpy that always give the same answer, and a
test holds them against scikit-fuzzy.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.methods.frame import BRAIN
from ichseg.methods.in_box import InBoxPredictor
from ichseg.methods.method import Method
from ichseg.methods.threshold import MEDIAN_PX
from ichseg.scan.limits import HIGHEST_BLOOD_HU

Floats = npt.NDArray[np.float64]

#: Where the three classes start, in HU: fluid and edema, brain, clotted blood. Where they end depends on the box.
START_HU = (10.0, 35.0, 65.0)
#: Bezdek's m, the weight of doubt: 1 would be hard clusters, and 2 is what the literature uses throughout.
FUZZINESS = 2.0


class FuzzyCMeansPredictor(InBoxPredictor):
    """Three classes of brightness within each box; the brightest is blood.

    As in the published methods on hemorrhage (Bhadauria and Dewal 2014, Signal Image Video Process. 8:357; Zhang et
    al. 2024, Front. Neuroinform. 18:1440304, on CT-ICH itself) bone and air are taken out first, and what is left is
    clustered by its brightness in the brain window (0 to 80 HU). As for ``threshold``, a median filter comes before and
    holes are filled after. A box of one brightness has no brighter class, and no blood. A box without blood
    still has a brightest class: the method always answers.
    """

    name = "fcm"
    title = "Fuzzy c-means in the box"

    def find(self, inside_hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
        return _brightest_class(inside_hu)


def fuzzy_c_means(
    values: npt.ArrayLike,
    start: npt.ArrayLike,
    *,
    weights: npt.ArrayLike | None = None,
    fuzziness: float = FUZZINESS,
    tolerance: float = 1e-4,
    most_steps: int = 500,
) -> tuple[Floats, Floats]:
    """Cluster numbers softly about as many centres as ``start`` has: (centres [c], memberships [c, n]).

    Bezdek 1981: memberships and centres are set by turns, each the best for the other,
    u_ik = 1 / sum_j (d_ik / d_jk)^(2 / (m - 1)) and v_i = sum_k u_ik^m x_k / sum_k u_ik^m, until no centre moves by
    more than ``tolerance``. ``weights`` [n] says how often each value occurs. A value that is on a centre belongs
    to it alone (to several that coincide, in equal parts).
    """
    x = np.asarray(values, dtype=np.float64)
    centres = np.asarray(start, dtype=np.float64)
    counts = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)
    for _ in range(most_steps):
        shares = counts * _memberships(x, centres, fuzziness) ** fuzziness
        moved = (shares @ x) / shares.sum(axis=1)
        done = np.abs(moved - centres).max() <= tolerance
        centres = moved
        if done:
            break
    return centres, _memberships(x, centres, fuzziness)


def _memberships(x: Floats, centres: Floats, fuzziness: float) -> Floats:
    """How far each value belongs to each centre: [c, n], columns that add up to 1."""
    squares = (x[None] - centres[:, None]) ** 2
    # Far above rounding and far below a HU squared, so that a value on a centre belongs to it, without dividing by 0.
    nearness = np.maximum(squares, 1e-12) ** (-1 / (fuzziness - 1))
    return nearness / nearness.sum(axis=0)


def _brightest_class(box_hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
    """Blood among the pixels [y, x] of one box in HU: a mask [y, x]."""
    smooth = ndimage.median_filter(np.asarray(box_hu, np.float32), size=MEDIAN_PX, mode="nearest")
    soft = (smooth > BRAIN.low) & (smooth < HIGHEST_BLOOD_HU)
    # Each brightness is clustered once, with its count: exactly what clustering the pixels gives.
    levels, level_of, counts = np.unique(
        np.minimum(smooth[soft], BRAIN.high), return_inverse=True, return_counts=True
    )
    if levels.size < 2:
        return np.zeros(soft.shape, dtype=bool)
    centres, memberships = fuzzy_c_means(levels, START_HU, weights=counts)
    brightest = memberships.argmax(axis=0) == centres.argmax()
    blood = np.zeros(soft.shape, dtype=bool)
    blood[soft] = brightest[level_of]
    filled: npt.NDArray[np.bool_] = ndimage.binary_fill_holes(blood)
    return filled


def load(method: Method, device: str, backend: str) -> FuzzyCMeansPredictor:
    """The loader of its row: there is nothing to read."""
    del method, device, backend
    return FuzzyCMeansPredictor()
