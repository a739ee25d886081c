"""The editable masks of one scan: what is kept, and undo and redo over any sequence of edits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ichseg.errors import BoxError, VolumeError
from ichseg.prompt import Box
from ichseg.segmentation import UNDO_LIMIT, Segmentation

Mask = npt.NDArray[np.bool_]
SHAPE = (4, 6, 9)
BOX = Box(1, 1, 5, 4)


def blob(value: int = 3) -> Mask:
    """A mask whose number of voxels tells it from others."""
    mask = np.zeros(SHAPE[1:], dtype=bool)
    mask[2, 1 : 1 + value] = True
    return mask


def test_it_starts_with_nothing() -> None:
    marked = Segmentation(SHAPE)
    assert (marked.marked_slices(), marked.models, marked.nbytes) == ([], [], 0)
    assert marked.boxes(0) == ()
    assert not marked.mask_zyx("threshold").any()
    assert marked.mask_zyx("threshold").shape == SHAPE
    assert not (marked.can_undo or marked.can_redo or marked.undo() or marked.redo())


def test_what_is_set_on_a_slice_is_there_and_nowhere_else() -> None:
    marked = Segmentation(SHAPE)
    marked.set_slice(2, [BOX, Box(0, 0, 2, 2)], {"a": blob(), "b": blob(5)})
    assert marked.boxes(2) == (BOX, Box(0, 0, 2, 2))
    assert marked.models == ["a", "b"]
    np.testing.assert_array_equal(marked.slice_mask("a", 2), blob())
    np.testing.assert_array_equal(marked.mask_zyx("b")[2], blob(5))
    assert marked.mask_zyx("b").sum() == 5
    assert marked.boxes(1) == () and not marked.slice_mask("a", 1).any()


def test_setting_a_slice_again_replaces_it() -> None:
    marked = Segmentation(SHAPE)
    marked.set_slice(1, [BOX], {"a": blob(), "b": blob()})
    marked.set_slice(1, [BOX], {"a": blob(4)})
    assert marked.models == ["a"]
    assert marked.mask_zyx("a").sum() == 4


def test_no_boxes_means_nothing_on_the_slice() -> None:
    marked = Segmentation(SHAPE)
    marked.set_slice(1, [BOX], {"a": blob()})
    marked.set_slice(1, [], {"a": blob()})
    assert marked.marked_slices() == [] and not marked.mask_zyx("a").any()


def test_slices_with_a_box_and_slices_with_blood_are_told_apart() -> None:
    marked = Segmentation(SHAPE)
    marked.set_slice(3, [BOX], {"a": blob()})
    marked.set_slice(0, [BOX], {"a": np.zeros(SHAPE[1:], dtype=bool)})
    marked.set_slice(1, [BOX], {"b": blob()})
    assert marked.marked_slices() == [0, 1, 3]
    assert marked.marked_slices("a") == [3]
    assert marked.marked_slices("never ran") == []


def test_boxes_are_cut_to_the_slice() -> None:
    marked = Segmentation(SHAPE)
    marked.set_slice(0, [Box(-3, 2, 100, 4)], {})
    assert marked.boxes(0) == (Box(0, 2, 9, 4),)


def test_masks_given_and_taken_are_copies() -> None:
    marked, mask = Segmentation(SHAPE), blob()
    marked.set_slice(0, [BOX], {"a": mask})
    mask[:] = True
    marked.slice_mask("a", 0)[:] = True
    marked.mask_zyx("a")[:] = True
    np.testing.assert_array_equal(marked.slice_mask("a", 0), blob())


@given(hnp.arrays(bool, st.tuples(st.just(2), st.integers(1, 20), st.integers(1, 20))))
def test_any_mask_comes_back_as_it_was(masks: Mask) -> None:
    marked = Segmentation(masks.shape)  # type: ignore[arg-type]
    for k, mask in enumerate(masks):
        marked.set_slice(k, [Box(0, 0, 1, 1)], {"a": mask})
    np.testing.assert_array_equal(marked.mask_zyx("a"), masks)


def test_undo_and_redo_walk_the_steps() -> None:
    marked = Segmentation(SHAPE)
    marked.set_slice(0, [BOX], {"a": blob(1)})
    marked.set_slice(1, [BOX], {"a": blob(2)})
    marked.clear()
    assert marked.undo() and marked.marked_slices() == [0, 1]
    assert marked.undo() and marked.marked_slices() == [0]
    assert marked.redo() and marked.mask_zyx("a").sum() == 3
    assert marked.redo() and marked.marked_slices() == [] and not marked.can_redo


def test_an_edit_after_undo_drops_what_could_be_redone() -> None:
    marked = Segmentation(SHAPE)
    marked.set_slice(0, [BOX], {"a": blob(1)})
    marked.undo()
    marked.set_slice(0, [BOX], {"a": blob(2)})
    assert not marked.can_redo
    assert marked.mask_zyx("a").sum() == 2


def test_an_edit_that_changes_nothing_is_no_step() -> None:
    marked = Segmentation(SHAPE)
    marked.clear()
    marked.clear_slice(2)
    assert not marked.can_undo
    marked.set_slice(0, [BOX], {"a": blob()})
    marked.set_slice(0, [BOX], {"a": blob()})
    marked.undo()
    assert marked.marked_slices() == []


def test_a_further_model_joins_every_step_with_those_boxes() -> None:
    marked = Segmentation(SHAPE)
    marked.set_slice(0, [BOX], {"a": blob(1)})
    marked.set_slice(1, [BOX], {"a": blob(2)})
    marked.add_masks(0, {"b": blob(5)})
    assert marked.models == ["a", "b"]
    marked.undo()
    assert marked.mask_zyx("b").sum() == 5, "the earlier step shows the same boxes"
    assert marked.redo(), "filling in is no edit: what was undone can still be redone"
    marked.clear_slice(0)
    assert marked.mask_zyx("b").sum() == 0


def test_a_mask_without_a_box_is_refused() -> None:
    with pytest.raises(BoxError, match="slice 2 has none; draw a box first"):
        Segmentation(SHAPE).add_masks(2, {"a": blob()})


@pytest.mark.parametrize("k", [-1, 4])
@pytest.mark.parametrize(
    "call",
    [
        lambda marked, k: marked.boxes(k),
        lambda marked, k: marked.slice_mask("a", k),
        lambda marked, k: marked.set_slice(k, [BOX], {}),
        lambda marked, k: marked.add_masks(k, {}),
        lambda marked, k: marked.clear_slice(k),
    ],
)
def test_a_slice_that_is_not_on_the_scan_is_refused(
    call: Callable[[Segmentation, int], object], k: int
) -> None:
    with pytest.raises(BoxError, match=f"slices 0 to 3; got {k}; choose"):
        call(Segmentation(SHAPE), k)


def test_a_bad_edit_changes_nothing() -> None:
    marked = Segmentation(SHAPE)
    marked.set_slice(0, [BOX], {"a": blob()})
    with pytest.raises(BoxError):
        marked.set_slice(0, [Box(20, 20, 30, 30)], {})
    with pytest.raises(VolumeError, match=r"\(6, 9\); that of a has \(9, 6\)"):
        marked.set_slice(0, [BOX], {"a": blob().T})
    assert marked.mask_zyx("a").sum() == 3
    marked.undo()
    assert not marked.can_undo


def test_a_long_history_forgets_its_beginning_only() -> None:
    marked = Segmentation(SHAPE)
    for step in range(UNDO_LIMIT + 30):
        marked.set_slice(step % 4, [Box(0, 0, 1 + step / 1000, 1)], {"a": blob()})
    end = [marked.boxes(k) for k in range(4)]
    steps = 0
    while marked.undo():
        steps += 1
    assert steps == UNDO_LIMIT
    while marked.redo():
        pass
    assert [marked.boxes(k) for k in range(4)] == end


def test_a_full_history_of_large_slices_stays_small() -> None:
    marked = Segmentation((30, 512, 512))
    mask = np.zeros((512, 512), dtype=bool)
    mask[200:300, 150:280] = True  # a large hematoma
    for step in range(UNDO_LIMIT + 50):
        mask[200, 150 + step % 100] ^= True
        marked.set_slice(step % 30, [Box(150, 200, 280, 300)], {"a": mask, "b": mask})
    assert marked.nbytes <= (UNDO_LIMIT + 31) * 2 * (100 * 130 // 8)  # 0.75 MB; unpacked it is 120


# Any sequence of edits, against the plainest possible account of what should be there.

Edit = tuple[int, int, int]
EDITS = st.lists(
    st.tuples(st.integers(-1, SHAPE[0] - 1), st.integers(0, 3), st.integers(0, 5)), max_size=30
)


def apply(marked: Segmentation, edit: Edit) -> None:
    """Slice -1 clears all; otherwise so many boxes, with a mask of so many voxels."""
    k, boxes, voxels = edit
    if k < 0:
        marked.clear()
    else:
        marked.set_slice(k, [BOX] * boxes, {"a": blob(voxels)})


def state(marked: Segmentation) -> tuple[object, ...]:
    return tuple((marked.boxes(k), marked.slice_mask("a", k).tobytes()) for k in range(SHAPE[0]))


@settings(deadline=None)
@given(EDITS)
def test_undoing_all_is_empty_and_redoing_all_is_the_end(edits: list[Edit]) -> None:
    marked = Segmentation(SHAPE)
    empty, plain = state(marked), {}
    for k, boxes, voxels in edits:
        apply(marked, (k, boxes, voxels))
        if k < 0:
            plain.clear()
        else:
            plain[k] = (boxes, voxels if boxes else 0)
    for k in range(SHAPE[0]):
        boxes, voxels = plain.get(k, (0, 0))
        assert (len(marked.boxes(k)), int(marked.slice_mask("a", k).sum())) == (boxes, voxels)
    end = state(marked)
    seen = [end]
    while marked.undo():
        seen.append(state(marked))
    assert seen[-1] == state(marked) == empty
    assert all(before != after for before, after in pairwise(seen))
    back = [state(marked)]
    while marked.redo():
        back.append(state(marked))
    assert back == seen[::-1]
    assert state(marked) == end


@settings(deadline=None)
@given(
    EDITS, st.lists(st.sampled_from(["undo", "redo"]), max_size=20), st.integers(1, SHAPE[0] - 1)
)
def test_an_edit_anywhere_in_the_history_is_undone_to_where_it_was(
    edits: list[Edit], walk: list[str], k: int
) -> None:
    marked = Segmentation(SHAPE)
    for edit in edits:
        apply(marked, edit)
    for step in walk:
        getattr(marked, step)()
    before = state(marked)
    marked.set_slice(k, [Box(0, 0, 9, 6)], {"a": blob(8)})
    assert not marked.can_redo
    assert marked.undo()
    assert state(marked) == before
