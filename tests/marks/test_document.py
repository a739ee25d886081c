"""The editable masks of one scan: what is kept, and undo and redo over any sequence of edits."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ichseg.errors import BoxError, LesionError, VolumeError
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.marks.history import UNDO_LIMIT
from ichseg.marks.lesion import PALETTE, Lesion

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


@settings(deadline=None)
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


# Lesions


def piece(y: int, x0: int, x1: int) -> Mask:
    """Pixels x0 to x1 of row y."""
    mask = np.zeros(SHAPE[1:], dtype=bool)
    mask[y, x0:x1] = True
    return mask


def two_lesions() -> Segmentation:
    """Lesion 1 boxed on pixels 1 to 5 of row 2 of slice 1, and a second lesion with nothing."""
    marked = Segmentation(SHAPE)
    marked.set_boxes(1, 1, [BOX], {"a": piece(2, 1, 6), "b": piece(2, 1, 8)})
    assert marked.add_lesion(type="IVH") == 2
    return marked


def test_lesions_have_numbers_names_types_and_colours_of_their_own() -> None:
    marked = Segmentation(SHAPE)
    assert marked.lesions == [Lesion(1, "Lesion 1", "unspecified", PALETTE[0])]
    assert marked.add_lesion(name="  Left ventricle ", type="IVH") == 2
    assert marked.add_lesion(colour="#ffffff") == 3
    assert marked.lesion(2) == Lesion(2, "Left ventricle", "IVH", PALETTE[1])
    marked.set_lesion(2, name="Ventricles", locked=True, visible=False)
    assert marked.lesion(2) == Lesion(2, "Ventricles", "IVH", PALETTE[1], True, False)
    marked.set_lesion(2, locked=False)
    marked.remove_lesion(1)
    assert [lesion.id for lesion in marked.lesions] == [2, 3]
    assert marked.add_lesion() == 1, "the lowest number that is free"


def test_the_palette_is_told_apart_without_colour_vision_for_red_or_green() -> None:
    """By the smallest distance of two colours in CIELAB once one kind of cone is gone (Vienot 1999)."""
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in PALETTE])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    protan = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    deutan = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    for seen in (np.eye(3), protan, deutan):
        xyz = np.clip(linear @ seen.T, 0, 1) @ to_xyz.T / [0.9505, 1.0, 1.089]
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        lab = np.stack(
            [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
        )
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)[~np.eye(len(lab), dtype=bool)]
        assert apart.min() > 15


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m: m.add_lesion(type="bleed"), "IPH, IVH, SDH, EDH, SAH, oedema; got 'bleed'"),
        (lambda m: m.set_lesion(1, type=""), "got ''; choose"),
        (lambda m: m.set_lesion(1, name="x" * 41), "at most 40 characters; got 'xxx"),
        (lambda m: m.set_lesion(1, name="two\nlines"), r"got 'two\\nlines'; shorten"),
        (lambda m: m.set_lesion(1, colour="red"), "#RRGGBB; got 'red'"),
        (lambda m: m.set_lesion(2, name="x"), "those of this scan, 1; got 2; add it first"),
        (lambda m: m.boxes(0, 7), "got 7; add it first"),
        (lambda m: m.set_boxes(0, 7, [BOX], {}), "got 7; add it first"),
        (lambda m: m.apply_edit(0, 7, blob(), "a"), "got 7; add it first"),
        (lambda m: m.set_propagated({}, 7, "a", {}), "got 7; add it first"),
        (lambda m: m.add_masks(0, {}, 7), "got 7; add it first"),
        (lambda m: m.clear(7), "got 7; add it first"),
        (lambda m: m.remove_lesion(1), "Lesion 1 is the only one; clear it instead"),
    ],
)
def test_a_lesion_that_cannot_be_meant_is_refused(
    call: Callable[[Segmentation], object], sentence: str
) -> None:
    marked = Segmentation(SHAPE)
    with pytest.raises(LesionError, match=sentence):
        call(marked)
    assert not marked.can_undo


def test_there_are_as_many_lesions_as_a_byte_has_labels() -> None:
    marked = Segmentation(SHAPE)
    for number in range(2, 256):
        assert marked.add_lesion() == number
    with pytest.raises(LesionError, match="1 to 255; got 256; remove one"):
        marked.add_lesion()


def test_each_lesion_has_boxes_and_masks_of_its_own() -> None:
    marked = two_lesions()
    other = Box(0, 4, 9, 6)
    marked.set_boxes(1, 2, [other], {"a": piece(5, 0, 4)})
    assert (marked.boxes(1), marked.boxes(1, 2)) == ((BOX,), (other,))
    labels = marked.labels_zyx("a")
    assert labels.dtype == np.uint8 and labels.shape == SHAPE
    np.testing.assert_array_equal(labels[1] == 1, piece(2, 1, 6))
    np.testing.assert_array_equal(labels[1] == 2, piece(5, 0, 4))
    np.testing.assert_array_equal(marked.slice_labels("a", 1), labels[1])
    np.testing.assert_array_equal(marked.slice_mask("a", 1), labels[1] > 0)
    np.testing.assert_array_equal(marked.mask_zyx("a", 2)[1], piece(5, 0, 4))
    assert marked.prompts() == {(1, 1): (BOX,), (1, 2): (other,)}
    marked.remove_lesion(2)
    assert (marked.labels_zyx("a") == (labels == 1)).all()


def test_oedema_is_no_blood() -> None:
    marked = two_lesions()
    marked.set_boxes(1, 2, [BOX], {"a": piece(5, 0, 4)})
    assert marked.mask_zyx("a").sum() == 9
    marked.set_lesion(2, type="oedema")
    assert (marked.mask_zyx("a").sum(), marked.slice_mask("a", 1).sum()) == (5, 5)
    assert marked.mask_zyx("a", 2).sum() == 4 and (marked.labels_zyx("a") == 2).sum() == 4


# Who gets a voxel


def test_of_two_that_are_not_locked_the_later_wins() -> None:
    marked = two_lesions()
    marked.set_boxes(1, 2, [BOX], {"a": piece(2, 4, 9)})
    assert marked.slice_labels("a", 1)[2].tolist() == [0, 1, 1, 1, 2, 2, 2, 2, 2]
    assert (marked.slice_labels("b", 1)[2] == 1).sum() == 7, "the other model's is its own affair"
    marked.apply_edit(1, 1, piece(2, 0, 7), "a")
    assert marked.slice_labels("a", 1)[2].tolist() == [1] * 7 + [2, 2]


def test_a_locked_lesion_never_changes() -> None:
    marked = two_lesions()
    marked.set_lesion(1, locked=True)
    for write in (
        lambda: marked.set_boxes(1, 2, [BOX], {"a": piece(2, 4, 9)}),
        lambda: marked.apply_edit(1, 2, piece(2, 0, 9), "a"),
        lambda: marked.set_propagated({1: piece(2, 0, 9), 2: blob()}, 2, "a", {}),
        lambda: marked.import_labels(np.full(SHAPE, 1, dtype=np.uint8), "a"),
        marked.clear,
        lambda: marked.clear_slice(1),
    ):
        write()
        np.testing.assert_array_equal(marked.mask_zyx("a", 1)[1], piece(2, 1, 6))
        assert marked.boxes(1) == (BOX,) and marked.mask_zyx("a", 1).sum() == 5
    for refused in (
        lambda: marked.set_slice(1, [], {}),
        lambda: marked.apply_edit(1, 1, blob(), "a"),
        lambda: marked.apply_edits({0: blob()}, 1, "a"),
        lambda: marked.set_propagated({0: blob()}, 1, "a", {}),
        lambda: marked.clear(1),
        lambda: marked.clear_slice(1, 1),
        lambda: marked.remove_lesion(1),
    ):
        with pytest.raises(LesionError, match="Lesion 1 is locked; unlock it first"):
            refused()
    marked.add_masks(1, {"a": blob(1), "c": blob(2)})
    np.testing.assert_array_equal(marked.mask_zyx("a", 1)[1], piece(2, 1, 6))
    assert marked.mask_zyx("c").sum() == 2, "a further model's answer is no change of the mask"


def test_undo_goes_behind_a_lock() -> None:
    marked = two_lesions()
    marked.set_lesion(1, locked=True)
    while marked.undo():
        pass
    assert marked.marked_slices() == [] and not marked.lesion(1).locked


# Edits and propagation


def test_an_edit_is_of_one_model_and_leaves_the_boxes() -> None:
    marked = two_lesions()
    before = marked.state
    marked.apply_edit(1, 1, blob(2), "a")
    assert (marked.mask_zyx("a").sum(), marked.mask_zyx("b").sum()) == (2, 7)
    assert marked.boxes(1) == (BOX,)
    assert [marked.origin(1, 1, model) for model in ("a", "b", None)] == ["edited", "box", "edited"]
    assert marked.changed_slices(before) == [1]


def test_a_corrected_slice_stays_when_boxes_elsewhere_change() -> None:
    marked = two_lesions()
    marked.apply_edit(1, 1, blob(2), "a")
    marked.apply_edit(2, 1, blob(4), "a")
    kept = marked.labels_zyx("a")[1:3]
    marked.set_boxes(0, 1, [BOX], {"a": blob(5)})
    marked.set_boxes(0, 2, [BOX], {"a": piece(5, 0, 3)})
    marked.set_propagated({k: blob(6) for k in range(4)}, 1, "a", {})
    marked.set_propagated({k: np.ones(SHAPE[1:], dtype=bool) for k in range(4)}, 2, "a", {})
    marked.add_masks(1, {"a": blob(6)})
    np.testing.assert_array_equal(marked.labels_zyx("a")[1:3] == 1, kept == 1)
    marked.clear_slice(0)
    np.testing.assert_array_equal(marked.labels_zyx("a")[1:3] == 1, kept == 1)
    marked.set_boxes(1, 1, [BOX], {"a": blob(5)})
    assert marked.origin(1, 1, "a") == "box", "its own boxes do set it again"


def test_what_was_erased_altogether_stays_erased() -> None:
    marked = Segmentation(SHAPE)
    marked.set_propagated({1: blob(), 2: blob()}, 1, "a", {})
    marked.apply_edit(2, 1, np.zeros(SHAPE[1:], dtype=bool), "a")
    marked.set_propagated({1: blob(), 2: blob()}, 1, "a", {})
    assert marked.marked_slices() == marked.marked_slices("a") == [1]
    assert marked.origin(2) == "edited"


def test_an_edit_that_changes_no_voxel_is_none() -> None:
    marked = two_lesions()
    steps = marked.state
    marked.apply_edit(1, 1, piece(2, 1, 6), "a")
    marked.apply_edit(0, 1, np.zeros(SHAPE[1:], dtype=bool), "a")
    assert marked.origin(1) == "box" and marked.origin(0) is None
    assert marked.changed_slices(steps) == [] and marked.undo()
    assert len(marked.lesions) == 1, "so that the last step is the lesion that was added"


def test_prompts_win_over_propagation_and_a_new_propagation_replaces_the_former() -> None:
    marked = Segmentation(SHAPE)
    marked.set_boxes(1, 1, [BOX], {"a": blob(3)})
    box = Box(1, 2, 7, 3)
    marked.set_propagated(
        {0: blob(2), 1: blob(6), 2: blob(4), 3: blob(0)}, 1, "a", {0: [box]}, {"margin_mm": 3.0}
    )
    assert [int(mask.sum()) for mask in marked.mask_zyx("a")] == [2, 3, 4, 0]
    assert [marked.origin(k) for k in range(4)] == ["propagated", "box", "propagated", None]
    assert marked.boxes(0) == (), "a propagated box is not one that a person drew"
    assert marked.parameters("a") == {"margin_mm": 3.0}
    found = {part.k: (part.origin, part.boxes, part.from_boxes) for part in marked.parts("a")}
    assert found == {
        0: ("propagated", (box,), True),
        1: ("box", (BOX,), True),
        2: ("propagated", (), False),
    }
    marked.set_propagated({2: blob(1)}, 1, "a", {})
    assert [int(mask.sum()) for mask in marked.mask_zyx("a")] == [0, 3, 1, 0]
    assert marked.parameters("a") == {} and marked.marked_slices() == [1, 2]
    marked.set_propagated({2: blob(5)}, 1, "b", {})
    assert marked.mask_zyx("a").sum() == 4, "each model's is its own"


def test_a_mask_that_lost_voxels_is_no_longer_what_its_boxes_give() -> None:
    marked = two_lesions()
    marked.set_boxes(1, 2, [BOX], {"a": piece(2, 5, 9), "b": piece(5, 0, 9)})
    exact = {
        (part.lesion, model): part.from_boxes for model in "ab" for part in marked.parts(model)
    }
    assert exact == {(1, "a"): False, (2, "a"): True, (1, "b"): True, (2, "b"): True}


def test_several_slices_are_edited_in_one_step() -> None:
    marked = two_lesions()
    marked.apply_edits({0: blob(1), 2: blob(2), 3: blob(3)}, 2, "a")
    assert marked.marked_slices("a", 2) == [0, 2, 3]
    marked.undo()
    assert marked.marked_slices("a", 2) == []


def test_one_step_is_all_or_nothing() -> None:
    marked = two_lesions()
    before = marked.labels_zyx("a")
    with marked.one_step():
        marked.set_boxes(0, 1, [BOX], {"a": blob()})
        marked.add_masks(0, {"b": blob(5)})
        with marked.one_step():
            marked.set_propagated({2: blob()}, 1, "a", {})
        assert marked.marked_slices("a") == [0, 1, 2]
    assert marked.marked_slices("b") == [0, 1]
    assert marked.undo() and (marked.labels_zyx("a") == before).all()
    assert marked.redo() and marked.marked_slices("a") == [0, 1, 2]
    now = marked.labels_zyx("a")
    with pytest.raises(LesionError), marked.one_step():
        marked.clear()
        marked.remove_lesion(9)
    assert (marked.labels_zyx("a") == now).all()
    with marked.one_step():
        marked.set_lesion(2, locked=True)
        marked.set_lesion(2, locked=False)
    assert marked.undo() and (marked.labels_zyx("a") == before).all(), "nothing changed: no step"


def test_a_further_model_joins_each_step_as_its_other_lesions_leave_room() -> None:
    marked = two_lesions()
    marked.set_boxes(1, 2, [BOX], {"a": piece(2, 5, 9), "b": piece(2, 4, 9)})
    marked.add_masks(1, {"c": piece(2, 0, 9)}, 1)
    marked.add_masks(1, {"c": piece(2, 0, 9), "b": piece(2, 6, 9)}, 2)
    assert (marked.slice_labels("c", 1)[2] == 1).all()
    assert marked.slice_labels("b", 1)[2].tolist() == [0, 1, 1, 1, 0, 0, 2, 2, 2]
    marked.undo()
    assert marked.slice_labels("b", 1)[2].tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 0]
    assert marked.mask_zyx("c").sum() == 9


def test_a_better_answer_to_the_same_boxes_joins_the_steps_before_an_edit_too() -> None:
    marked = two_lesions()
    marked.apply_edit(1, 1, blob(2), "a")
    marked.add_masks(1, {"a": blob(6), "b": blob(4)})
    assert (marked.mask_zyx("a").sum(), marked.mask_zyx("b").sum()) == (2, 4)
    marked.undo()
    assert (marked.mask_zyx("a").sum(), marked.mask_zyx("b").sum()) == (6, 4)


# A mask that was made before


def test_a_binary_mask_becomes_the_lesion_that_is_there() -> None:
    for value in (1, 3, 255):
        marked = Segmentation(SHAPE)
        mask = np.zeros(SHAPE, dtype=np.uint8)
        mask[1:3, 2, 2:5] = value
        assert marked.import_labels(mask, "a") == {value: 1}
        assert (marked.labels_zyx("a") == (mask > 0)).all()
        assert (marked.origin(1), marked.boxes(1)) == ("edited", ())
        assert marked.undo() and marked.marked_slices() == [] and not marked.can_undo


def test_labels_keep_their_numbers_where_they_can() -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[0, 0, :3], labels[1, 1, :4], labels[2, 2, :5] = 1, 2, 4
    marked = Segmentation(SHAPE)
    known = [Lesion(2, "Ventricles", "IVH"), Lesion(4, type="SDH", locked=True)]
    assert marked.import_labels(labels, "a", known) == {1: 1, 2: 2, 4: 4}
    assert (marked.labels_zyx("a") == labels).all()
    assert [lesion.type for lesion in marked.lesions] == ["unspecified", "IVH", "SDH"]
    assert marked.lesion(2).name == "Ventricles"
    assert marked.import_labels(labels, "a") == {1: 3, 2: 5, 4: 6}
    assert marked.marked_slices("a", 1) == [] and marked.marked_slices("a", 3) == [0], (
        "the later wins"
    )
    marked.undo()
    assert (marked.labels_zyx("a") == labels).all()


def test_an_import_goes_on_beside_what_is_marked_and_yields_to_a_lock() -> None:
    marked = two_lesions()
    marked.set_lesion(1, locked=True)
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[1, 2, :] = 1
    assert marked.import_labels(mask, "a") == {1: 2}
    assert marked.slice_labels("a", 1)[2].tolist() == [2, 1, 1, 1, 1, 1, 2, 2, 2]


def test_an_import_that_does_not_fit_is_refused() -> None:
    marked = Segmentation(SHAPE)
    with pytest.raises(VolumeError, match=r"\(4, 6, 9\); got \(9, 6, 4\)"):
        marked.import_labels(np.zeros(SHAPE[::-1], dtype=np.uint8), "a")
    everything = np.zeros(SHAPE, dtype=np.uint8)
    everything.ravel()[: 4 * 54] = np.arange(1, 4 * 54 + 1)
    assert len(marked.import_labels(everything, "a")) == 216
    with pytest.raises(LesionError, match="1 to 255; got 256; remove one"):
        marked.import_labels(everything, "a")
    assert len(marked.lesions) == 216


# Everything, in any order

Action = tuple[int, int, int, int, int, bool]
ACTIONS = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.integers(0, SHAPE[0] - 1),
        st.integers(1, 3),
        st.integers(0, 8),
        st.integers(0, 8),
        st.booleans(),
    ),
    max_size=25,
)


def act(marked: Segmentation, action: Action) -> None:
    """One change of any kind; what is refused (a locked lesion, one that is not there) changes nothing."""
    what, k, lesion, x0, length, flag = action
    mask = piece(lesion, x0, min(9, x0 + length)) | piece(3, x0 // 2, x0 // 2 + 2)
    model = "a" if flag else "b"
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[k] = mask * lesion
    labels[0, 5, x0] = 3
    changes: list[Callable[[], object]] = [
        lambda: marked.set_boxes(k, lesion, [BOX] * (length % 3), {"a": mask, "b": mask.copy()}),
        lambda: marked.apply_edit(k, lesion, mask, model),
        lambda: marked.apply_edits({0: mask, k: ~mask}, lesion, model),
        lambda: marked.set_propagated({0: mask, k: mask}, lesion, model, {k: [BOX]}, {"x": x0}),
        lambda: marked.add_lesion(type="SDH" if flag else "oedema"),
        lambda: marked.set_lesion(lesion, name=f"L{x0}", locked=flag, visible=x0 > 4),
        lambda: marked.remove_lesion(lesion),
        lambda: marked.import_labels(labels, model),
        lambda: marked.clear_slice(k) if flag else marked.clear(lesion),
        lambda: marked.clear(),
    ]
    with suppress(LesionError):
        changes[what]()


def everything(marked: Segmentation) -> tuple[object, ...]:
    return (
        tuple(marked.lesions),
        tuple(marked.prompts().items()),
        *(marked.labels_zyx(model).tobytes() for model in "ab"),
        *(
            tuple((p.k, p.lesion, p.origin, p.boxes, p.from_boxes) for p in marked.parts(model))
            for model in "ab"
        ),
        *(str(marked.parameters(model, one.id)) for model in "ab" for one in marked.lesions),
    )


@settings(deadline=None)
@given(ACTIONS)
def test_any_history_is_walked_back_and_forth_and_no_voxel_is_of_two_lesions(
    actions: list[Action],
) -> None:
    marked = Segmentation(SHAPE)
    seen = [everything(marked)]
    for action in actions:
        locked = {one.id: marked.mask_zyx("a", one.id) for one in marked.lesions if one.locked}
        act(marked, action)
        for id, mask in locked.items():
            assert (marked.mask_zyx("a", id) == mask).all()
        for model in "ab":
            masks = [marked.mask_zyx(model, one.id) for one in marked.lesions]
            assert np.sum(masks, axis=0).max() <= 1
            assert (np.any(masks, axis=0) == (marked.labels_zyx(model) > 0)).all()
        if everything(marked) != seen[-1]:
            seen.append(everything(marked))
    back = [everything(marked)]
    while marked.undo():
        back.append(everything(marked))
    assert back == seen[::-1]
    forth = [everything(marked)]
    while marked.redo():
        forth.append(everything(marked))
    assert forth == seen


@settings(deadline=None, max_examples=50)
@given(ACTIONS)
def test_what_is_taken_out_of_one_makes_another_that_is_the_same(actions: list[Action]) -> None:
    marked = Segmentation(SHAPE)
    for action in actions:
        act(marked, action)
    again = Segmentation.restored(
        SHAPE,
        marked.lesions,
        marked.prompts(),
        "a",
        marked.parts("a"),
        {one.id: marked.parameters("a", one.id) for one in marked.lesions},
    )
    assert not again.can_undo
    assert (again.labels_zyx("a") == marked.labels_zyx("a")).all()
    assert again.lesions == marked.lesions and again.prompts() == marked.prompts()
    for one, other in zip(again.parts("a"), marked.parts("a"), strict=True):
        assert (one.k, one.lesion, one.origin, one.boxes) == (
            other.k, other.lesion, other.origin, other.boxes,
        )  # fmt: skip
        assert one.from_boxes == other.from_boxes and (one.mask_yx == other.mask_yx).all()


def test_an_edit_of_a_full_slice_takes_under_five_milliseconds() -> None:
    marked = Segmentation((30, 512, 512))
    for _ in range(3):
        marked.add_lesion()
    y, x = np.ogrid[:512, :512]
    for k in range(30):
        for lesion in (1, 2, 3, 4):
            blood = (y - 250) ** 2 + (x - 100 * lesion) ** 2 < 60**2
            marked.set_boxes(k, lesion, [Box(0, 0, 500, 500)], {"a": blood, "b": blood})
    seconds = []
    for number in range(20):
        edited = marked.slice_mask("a", 12, 2)
        edited[200:210, 180 + number : 200 + number] ^= True  # reaches into lesions 1 and 3
        start = time.thread_time()
        marked.apply_edit(12, 2, edited, "a")
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 0.005


# The edge, as a step after what boxes give


def halved(model: str, k: int, mask_yx: Mask, of_slabs: bool = False) -> Mask:
    """A step that anyone can follow: of model a, the left half of the slice goes."""
    out = mask_yx.copy()
    if model == "a":
        out[:, : SHAPE[2] // 2] = False
    return out


def test_the_edge_is_drawn_on_what_boxes_give_and_taken_off_and_undone() -> None:
    whole = np.ones(SHAPE[1:], bool)
    half = halved("a", 2, whole)
    marked = Segmentation(SHAPE, edge_step=halved)
    marked.set_boxes(2, 1, [BOX], {"a": whole, "b": whole})
    assert marked.edge
    np.testing.assert_array_equal(marked.slice_mask("a", 2), half)
    np.testing.assert_array_equal(marked.slice_mask("b", 2), whole)
    np.testing.assert_array_equal(marked.answer("a", 2), whole)
    marked.set_edge(False)
    np.testing.assert_array_equal(marked.slice_mask("a", 2), whole)
    marked.undo()
    assert marked.edge
    np.testing.assert_array_equal(marked.slice_mask("a", 2), half)
    marked.redo()
    assert not marked.edge
    marked.set_edge(True)
    np.testing.assert_array_equal(marked.slice_mask("a", 2), half)


def test_the_edge_leaves_what_a_person_corrected() -> None:
    whole = np.ones(SHAPE[1:], bool)
    marked = Segmentation(SHAPE, edge_step=halved)
    marked.set_boxes(2, 1, [BOX], {"a": whole})
    marked.apply_edit(2, 1, whole, "a")
    for on in (False, True):
        marked.set_edge(on)
        np.testing.assert_array_equal(marked.slice_mask("a", 2), whole)
    assert marked.answer("a", 2) is None


def test_the_edge_is_drawn_on_what_was_propagated() -> None:
    whole = np.ones(SHAPE[1:], bool)
    marked = Segmentation(SHAPE, edge_step=halved)
    marked.set_propagated({1: whole}, 1, "a", {1: [BOX]})
    np.testing.assert_array_equal(marked.slice_mask("a", 1), halved("a", 1, whole))


def test_the_edge_is_drawn_on_an_answer_that_no_boxes_on_its_slice_give() -> None:
    """As between two slabs: it is kept before the edge, until another lesion takes voxels from it."""
    whole, asked = np.ones(SHAPE[1:], bool), list[bool]()

    def step(model: str, k: int, mask_yx: Mask, of_slabs: bool = False, /) -> Mask:
        asked.append(of_slabs)
        return halved(model, k, mask_yx)

    marked = Segmentation(SHAPE, edge_step=step)
    marked.set_propagated({1: whole}, 1, "a", {})
    half = halved("a", 1, whole)
    np.testing.assert_array_equal(marked.slice_mask("a", 1), half)
    (part,) = marked.parts("a")
    assert part.is_whole and not part.from_boxes and part.answer_yx is not None
    np.testing.assert_array_equal(part.answer_yx, whole)
    again = Segmentation.restored(
        SHAPE, marked.lesions, {}, "a", marked.parts("a"), edge_step=step, edge=True
    )
    for one in (marked, again):
        one.set_edge(False)
        np.testing.assert_array_equal(one.slice_mask("a", 1), whole)
        one.set_edge(True)
        np.testing.assert_array_equal(one.slice_mask("a", 1), half)
    assert asked and all(asked)
    marked.set_boxes(1, marked.add_lesion(), [BOX], {"a": whole})
    lost = next(part for part in marked.parts("a") if part.lesion == 1)
    assert not lost.is_whole and lost.answer_yx is None


def test_a_later_mask_for_the_same_boxes_passes_through_each_steps_own_edge() -> None:
    """A refinement that comes after the edge was taken off is refined in both steps of the history."""
    whole = np.ones(SHAPE[1:], bool)
    marked = Segmentation(SHAPE, edge_step=halved)
    marked.set_boxes(2, 1, [BOX], {"a": np.zeros(SHAPE[1:], bool)})
    marked.set_edge(False)
    marked.add_masks(2, {"a": whole})
    np.testing.assert_array_equal(marked.slice_mask("a", 2), whole)
    marked.undo()
    np.testing.assert_array_equal(marked.slice_mask("a", 2), halved("a", 2, whole))


def test_without_a_step_the_edge_is_off() -> None:
    marked = Segmentation(SHAPE)
    assert not marked.edge
    marked.set_edge(True)
    assert not marked.edge and not marked.can_undo


def test_the_history_is_bounded_in_bytes_and_the_last_step_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ichseg.marks.history.UNDO_BYTES", 20_000)
    marked = Segmentation((2, 128, 128))
    rng = np.random.default_rng(1)
    for _ in range(30):  # each is 2 kB of bits that do not pack
        marked.apply_edit(0, 1, rng.random((128, 128)) < 0.5, "a")
    assert marked.nbytes < 25_000
    steps = 0
    while marked.undo():
        steps += 1
    assert 5 <= steps <= 10
    monkeypatch.setattr("ichseg.marks.history.UNDO_BYTES", 100)
    for _ in range(3):
        marked.apply_edit(1, 1, rng.random((128, 128)) < 0.5, "a")
    assert marked.undo() and not marked.undo()
