"""Heads drawn for the purpose, as cases, and the examples made of them."""

from __future__ import annotations

import numpy as np

from train.data.cache import Prepared
from train.data.cases import Case
from train.data.example_config import ExampleConfig
from train.data.examples import Example, TrainingSlices

ROWS, COLUMNS = 160, 128  # not square; 160 / 512 = 0.3125 native pixels to one at 512
SKULL = ((np.mgrid[:ROWS, :COLUMNS] - np.array([80, 64])[:, None, None]) ** 2).astype(float)


def ellipse(half_height: float, half_width: float) -> np.ndarray:
    return SKULL[0] / half_height**2 + SKULL[1] / half_width**2 <= 1


HEAD, BRAIN = ellipse(72, 56), ellipse(62, 46)
BRAIN_HU, BLOOD_HU, STRANGER_HU = 35, 70, 92


def head(blood: np.ndarray | None = None, blood_hu: int = BLOOD_HU) -> np.ndarray:
    """A slice in HU: air, a skull at 100, brain with a little texture, blood where marked."""
    rng = np.random.default_rng(7)
    hu = np.where(HEAD, 100.0, -20.0)
    hu[BRAIN] = BRAIN_HU + rng.normal(0, 2, BRAIN.sum())
    if blood is not None:
        hu[blood] = blood_hu
    return hu


def marks(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((ROWS, COLUMNS), dtype=bool)
    for y0, y1, x0, x1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


#: A large component and a small one apart, and a speck of 9 px: 100 px at 512 are 9.77 px here.
TWO_COMPONENTS = marks((60, 90, 40, 52), (100, 110, 70, 80), (40, 43, 70, 73))
ONE_COMPONENT = marks((50, 80, 60, 84))


def case(
    patient: str, masks: dict[int, np.ndarray], *, kind: str = "iph", hu: int = BLOOD_HU
) -> Case:
    """A patient of nine slices with blood on some."""
    marked = np.stack([masks.get(k, marks()) for k in range(9)])
    stored = np.stack([np.rint((head(mask, hu) + 20) * 2) for mask in marked]).astype(np.uint8)
    return Case(
        patient_id=patient,
        scan_id=patient,
        kind=kind,
        stored=stored,
        masks=marked,
        slice_types=tuple((kind,) if mask.any() else () for mask in marked),
        slice_numbers=tuple(range(1, 10)),
        hu_slope=0.5,
        hu_intercept=-20.0,
    )


CASES = (
    case("a", {4: TWO_COMPONENTS}),
    case("b", {2: ONE_COMPONENT, 3: ONE_COMPONENT}),
    case("clear", {}, kind="none"),
    # Stands for a held-out patient: its blood is brighter than anyone else's.
    case("stranger", {4: TWO_COMPONENTS | ONE_COMPONENT}, kind="sdh", hu=STRANGER_HU),
)
TRAINED = ("a", "b", "clear")


#: Every option at once.
EVERYTHING = ExampleConfig(
    box_per="both",
    box_jitter_px=10,
    flip_left_right=True,
    flip_up_down=True,
    rotation_degrees=15,
    hu_shift=5,
    hu_scale=0.1,
    noise_hu=4,
    blur_px=1,
    median_px=3,
    skull_strip=True,
    crop_sides=(2, 4),
    crop_share=0.5,
    implant_share=1,
    negative_share=1,
)


def examples_of(prepared: Prepared, config: ExampleConfig, epochs: int = 1) -> list[Example]:
    made = TrainingSlices(prepared, TRAINED, config)
    return [made.example(i, epoch) for epoch in range(epochs) for i in range(len(made))]


def inside(box_xyxy: np.ndarray, target: np.ndarray) -> bool:
    """Whether every pixel of a target lies in a box of the model frame, to half a pixel."""
    y, x = np.nonzero(target)
    x0, y0, x1, y1 = box_xyxy
    return bool(x.min() >= x0 - 1 and x.max() <= x1 + 1 and y.min() >= y0 - 1 and y.max() <= y1 + 1)
