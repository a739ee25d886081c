"""Names for arrays, and what two wings ask of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
#: A mask in which each voxel has the number of its lesion, 0 for none.
Labels = npt.NDArray[np.uint8]

#: Connected components of a slice are 8-connected: blood that touches at a corner is one component to a reader.
EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)
