"""One colour, one meaning: a method's is no lesion's, and no other method's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ichseg.marks.lesion import PALETTE
from ichseg.methods.catalogue import CATALOGUE


def lab(colours: Sequence[str]) -> npt.NDArray[np.float64]:
    """CIELAB under D65 [colour, 3] of #rrggbb."""
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = linear @ to_xyz.T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


def apart(first: Sequence[str], second: Sequence[str]) -> npt.NDArray[np.float64]:
    """The distances of two lists of colours, [first, second]."""
    return np.linalg.norm(lab(first)[:, None] - lab(second)[None], axis=2)


def test_no_method_has_a_lesions_colour() -> None:
    methods = [method.colour for method in CATALOGUE.values()]
    assert apart(methods, PALETTE).min() > 25  # 2.3 is a just noticeable difference


def test_each_method_has_a_colour_of_its_own() -> None:
    methods = [method.colour for method in CATALOGUE.values()]
    distances = apart(methods, methods)
    assert distances[~np.eye(len(methods), dtype=bool)].min() > 15
    assert next(iter(CATALOGUE.values())).rgb == (0x2F, 0xE3, 0xD3)
