"""Simulated clicks: where they go, and that a click changes what the decoder answers."""

from __future__ import annotations

import numpy as np
import torch

from ichseg.marks.box import Box
from ichseg.methods.network import LiteMedSAM
from train.clicks import CLICKS, Row, measure, middle, table
from train.dataset import NativeSlice


def test_the_middle_is_the_innermost_pixel_of_the_largest_piece() -> None:
    region = np.zeros((20, 30), dtype=bool)
    region[2:5, 2:5] = True
    region[8:17, 10:25] = True  # 9 x 15: its innermost row is 12
    where, pixels = middle(region)
    assert pixels == 135 and where is not None
    assert where[0] == 12 and 14 <= where[1] <= 20
    assert middle(np.zeros((4, 4), dtype=bool)) == (None, 0)


def test_a_piece_that_touches_the_edge_is_deepest_away_from_it() -> None:
    region = np.zeros((9, 9), dtype=bool)
    region[:, :5] = True
    where, _ = middle(region)
    assert where is not None and where[1] == 2


def test_every_slice_has_a_dice_for_each_number_of_clicks() -> None:
    torch.manual_seed(0)
    mask = np.zeros((64, 80), dtype=bool)
    mask[20:40, 30:50] = True
    box = Box(26, 16, 54, 44)
    hu = np.where(mask, 65, 30).astype(np.float32)
    item = NativeSlice("p", "s", 3, ("iph",), hu, mask, box, (box,), (0.5, 0.5), None)
    done = []
    (row,) = measure(LiteMedSAM().eval(), "fresh", [item], on_slice=lambda: done.append(1))
    assert (row.method, row.patient, row.slice, len(done)) == ("fresh", "p", 3, 1)
    assert len(row.dice) == CLICKS + 1 and all(0 <= value <= 1 for value in row.dice)
    assert row.first in ("positive", "negative")


def test_the_table_has_means_over_all_and_by_the_first_click() -> None:
    rows = [
        Row("a", "p", 0, "positive", (0.5, 0.7, 0.7, 0.7)),
        Row("a", "p", 1, "negative", (0.7, 0.5, 0.3, 0.1)),
    ]
    lines = table(rows).splitlines()
    assert lines[2] == "| a | either | 2 | 0.600 | 0.600 | 0.500 | 0.400 |"
    assert lines[3] == "| a | positive | 1 | 0.500 | 0.700 | 0.700 | 0.700 |"
    assert lines[4] == "| a | negative | 1 | 0.700 | 0.500 | 0.300 | 0.100 |"
