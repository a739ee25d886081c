"""Accepted proposals are lesions and boxes as any other, and one step of undo."""

from __future__ import annotations

import numpy as np
import pytest

from ichseg.errors import BoxError, LesionError
from ichseg.marks.accept import accept
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.marks.lesion import MAX_LESIONS

SHAPE = (4, 8, 9)
ONE = {1: (Box(1, 1, 4, 4), Box(5, 5, 7, 7)), 2: (Box(1, 1, 3, 3),)}
TWO = {3: (Box(5, 2, 8, 6),)}


def test_the_first_takes_the_lesion_that_is_there_and_the_next_new_ones() -> None:
    marked = Segmentation(SHAPE)
    assert accept(marked, [ONE, TWO]) == [1, 2]
    assert marked.prompts() == {(1, 1): ONE[1], (2, 1): ONE[2], (3, 2): TWO[3]}
    assert accept(marked, [TWO]) == [3]


@pytest.mark.parametrize("touch", ["box", "name", "lock", "second"])
def test_what_a_person_has_begun_is_left_as_it_is(touch: str) -> None:
    marked = Segmentation(SHAPE)
    if touch == "box":
        marked.set_slice(0, [Box(0, 0, 2, 2)], {"a": np.ones(SHAPE[1:], bool)})
    elif touch == "second":
        marked.add_lesion(type="IVH")
    else:
        marked.set_lesion(1, **({"name": "Left"} if touch == "name" else {"locked": True}))
    before = marked.lesions
    (number,) = accept(marked, [ONE])
    assert number == len(before) + 1 and marked.lesions[:-1] == before


def test_all_are_one_step_and_none_stays_where_one_cannot_be() -> None:
    marked = Segmentation(SHAPE)
    accept(marked, [ONE, TWO])
    assert marked.undo() and marked.prompts() == {} and len(marked.lesions) == 1
    assert marked.redo() and set(marked.prompts()) == {(1, 1), (2, 1), (3, 2)}
    before = marked.prompts()
    with pytest.raises(BoxError):
        accept(marked, [TWO, {9: TWO[3]}])
    with pytest.raises(BoxError):
        accept(marked, [{1: [Box(50, 50, 60, 60)]}])
    for empty in ({}, {1: []}):
        with pytest.raises(BoxError, match="one of these has none"):
            accept(marked, [TWO, empty])
    with pytest.raises(LesionError):
        accept(marked, [TWO] * MAX_LESIONS)
    assert marked.prompts() == before


def test_masks_come_later_and_are_no_step_of_their_own() -> None:
    marked = Segmentation(SHAPE)
    (number,) = accept(marked, [TWO])
    assert not marked.mask_zyx("a").any()
    marked.add_masks(3, {"a": np.ones(SHAPE[1:], bool)}, number)
    assert marked.mask_zyx("a").sum() == 72
    assert marked.undo() and not marked.can_undo and not marked.mask_zyx("a").any()
