"""How a slice becomes an example: the paper's pipeline, and what can be added to it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np

from train.data.cases import DataError


@dataclass(frozen=True)
class ExampleConfig:
    """How a slice becomes an example. The defaults are the paper's pipeline; every other field is off.

    The paper: window 30 to 100 HU with fixed scaling, components under 100 px dropped, slices with blood only, one
    box around all of it grown by 3 px on each side (of the 256 x 256 mask, as in its code), 256 x 256.
    """

    box_per: Literal["slice", "component", "both"] = "slice"
    """One box per slice; per 8-connected component; or per component and, where there are several, per slice, too."""
    min_component_px: float = 100.0
    """Components with less area at 512 x 512 are dropped; on another size it scales with the longer side squared."""
    box_margin_px: float = 3.0
    """Added on each side of the box, in pixels of the whole slice's 256 x 256 frame."""

    box_jitter_px: float = 0.0
    """Each side of the box moves by up to this many pixels at 512 x 512."""
    flip_left_right: bool = False
    flip_up_down: bool = False
    """Mirror one example in two."""
    rotation_degrees: float = 0.0
    """Turn by up to this angle either way; the box is taken from the turned mask."""
    hu_shift: float = 0.0
    """Add up to this many HU, up or down."""
    hu_scale: float = 0.0
    """Stretch contrast about 35 HU (brain) by up to this fraction, up or down."""
    noise_hu: float = 0.0
    """Add Gaussian noise with a standard deviation of up to this many HU, at native resolution."""
    blur_px: float = 0.0
    """Blur with a Gaussian of up to this sigma, in pixels at 512 x 512."""
    median_px: int = 0
    """Denoise with a median of this many pixels a side (3 or 5), at native resolution; 0 is off."""
    skull_strip: bool = False
    """Blacken what is outside the skull and the skull itself, on slices where the skull is closed."""

    crop_sides: tuple[float, float] | None = None
    """See a square crop around the box, its side drawn from this range in units of the box's longer side."""
    crop_share: float = 1.0
    """The share of examples that are cropped, where ``crop_sides`` is given; the rest show the whole slice."""
    crop_least_px: int = 64
    """A crop's least side in native pixels: the predictor's."""

    implant_share: float = 0.0
    """Further examples with blood implanted into a bloodless slice, for each real one."""
    negative_share: float = 0.0
    """Further examples with a box on a bloodless slice and nothing to find, for each real one."""

    def __post_init__(self) -> None:
        amounts = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if isinstance(getattr(self, field.name), (int, float))
        }
        for name, value in amounts.items():
            if not 0 <= value < np.inf:
                raise DataError(f"{name} is a number from 0; got {value}; 0 turns it off.")
        if self.crop_share > 1 or self.hu_scale >= 1:
            raise DataError(
                f"crop_share is at most 1 and hu_scale below 1; got {self.crop_share} and {self.hu_scale}; give "
                "fractions."
            )
        if self.median_px and self.median_px % 2 == 0:
            raise DataError(
                f"A median has an odd side; got median_px={self.median_px}; give 3 or 5."
            )
        if self.box_per not in ("slice", "component", "both"):
            raise DataError(
                f"box_per is slice, component or both; got '{self.box_per}'; give one of them."
            )
        if self.crop_sides is not None and not 1 <= self.crop_sides[0] <= self.crop_sides[1]:
            raise DataError(
                f"crop_sides is a range from 1 box side up; got {self.crop_sides}; give e.g. (2, 4)."
            )

    @property
    def has_fixed_images(self) -> bool:
        """Whether a slice's image is the same in every epoch, but for mirroring."""
        return not (
            self.rotation_degrees
            or self.hu_shift
            or self.hu_scale
            or self.noise_hu
            or self.blur_px
            or self.crop_sides
        )
