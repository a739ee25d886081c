"""What the labels of masks stand for: the mask's own list, what a person says, the default; never renumbered."""

from __future__ import annotations

import numpy as np
import pytest

from ichseg.errors import InputError
from ichseg.files.labels import types_of_labels, with_types
from ichseg.files.mask import LabelledMask
from ichseg.marks.lesion import Lesion


def mask(*labels: int, lesions: tuple[Lesion, ...] = ()) -> LabelledMask:
    """A mask with a voxel of each label."""
    labels_zyx = np.zeros((2, 3, 8), np.uint8)
    labels_zyx[1, 1, : len(labels)] = labels
    return LabelledMask(labels_zyx, lesions)


def types(given: LabelledMask) -> dict[int, str]:
    return {lesion.id: lesion.type for lesion in given.lesions}


SWAPPED = (Lesion(1, "Ventricle", "IVH"), Lesion(2, "Putamen", "IPH"))
SUBDURAL = Lesion(3, "Subdural", "SDH", "#123456")


def test_a_masks_own_list_comes_first() -> None:
    (one,) = with_types([mask(1, 2, lesions=SWAPPED)], [{}])
    assert one.lesions == SWAPPED and one.notes == ()


def test_a_lone_label_keeps_its_number_its_name_and_its_type() -> None:
    given = mask(3, lesions=(SUBDURAL,))
    (one,) = with_types([given], [{}])
    assert one.lesions == (SUBDURAL,)
    np.testing.assert_array_equal(one.labels_zyx, given.labels_zyx)
    with_others = mask(3, lesions=(*SWAPPED, SUBDURAL))
    assert with_types([with_others], [{}])[0].lesions == (*SWAPPED, SUBDURAL)
    for label in (2, 3, 255):
        (one,) = with_types([mask(label)], [{}])
        assert one.lesions == (Lesion(label),)
        assert f"what type of blood label {label} of the baseline is" in one.notes[0]
        assert one.labels_zyx.max() == label


def test_what_a_person_says_completes_what_the_mask_says() -> None:
    unspecified = (Lesion(1, "Clot"), Lesion(2, "Other", "IVH"))
    (one,) = with_types([mask(1, 2, lesions=unspecified)], [{1: "SDH", 2: "IVH", 9: "EDH"}])
    assert one.lesions == (Lesion(1, "Clot", "SDH"), Lesion(2, "Other", "IVH"))
    (one,) = with_types([mask(4, 1)], [{1: "IPH", 4: "oedema", 9: "EDH"}])
    assert types(one) == {1: "IPH", 4: "oedema"} and one.notes == ()


@pytest.mark.parametrize(
    ("given", "said", "words"),
    [
        (
            mask(1, 2, lesions=SWAPPED),
            {1: "IPH"},
            "label 1 of the baseline is IVH in the mask's own list and IPH by",
        ),
        (
            mask(1, 2, lesions=SWAPPED),
            {2: "unspecified"},
            "is IPH in the mask's own list and unspecified by",
        ),
        (mask(1, 2), {1: "SDH"}, "has 1, 2, and nothing says what 2 is; add e.g. --label 2=SDH"),
        (mask(3), {1: "SDH"}, "has 3, and nothing says what 3 is; add e.g. --label 3=SDH"),
        (mask(1, 3), {}, "has 1, 3; say what they are, e.g. --label 3=SDH"),
        (mask(1, 2, 3), {}, "has 1, 2, 3; say what they are"),
    ],
)
def test_what_contradicts_or_is_not_said_is_refused_in_one_sentence(
    given: LabelledMask, said: dict[int, str], words: str
) -> None:
    with pytest.raises(InputError) as refused:
        with_types([given], [said])
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_1_and_2_together_are_iph_and_ivh_as_the_last_resort() -> None:
    (one,) = with_types([mask(1, 2)], [{}])
    assert types(one) == {1: "IPH", 2: "IVH"}
    assert (
        "taken for 1 intraparenchymal hemorrhage, 2 intraventricular hemorrhage (" in one.notes[0]
    )
    usual = (Lesion(1, type="IPH"), Lesion(2, type="IVH"))
    for both in (mask(1, 2), mask(1, 2, lesions=usual)):
        for lone, type_ in ((1, "IPH"), (2, "IVH")):
            assert types(with_types([mask(lone), both], [{}, {}])[0]) == {lone: type_}
            assert types(with_types([both, mask(lone)], [{}, {}])[1]) == {lone: type_}
    first, second = with_types([mask(1), mask(2)], [{}, {}])
    assert types(first) == {1: "unspecified"} and types(second) == {2: "unspecified"}


def test_an_empty_mask_has_no_lesions() -> None:
    assert with_types([mask(), mask(1, 2)], [{}, {}])[0].lesions == ()
    assert with_types([mask()], [{1: "SDH"}])[0].lesions == ()
    assert with_types([mask(lesions=SWAPPED)], [{}])[0].lesions == SWAPPED


def test_a_default_does_not_stand_against_what_the_other_mask_says() -> None:
    said = mask(1, 2, lesions=SWAPPED)
    for pair in ([said, mask(1, 2)], [mask(1, 2), said], [said, mask(1)], [mask(1), said]):
        with pytest.raises(InputError, match="label 1 is IVH on the"):
            with_types(pair, [{}, {}])
    with pytest.raises(InputError, match="label 1 is oedema on the baseline"):
        with_types([mask(1, 2, lesions=(Lesion(1, type="oedema"), Lesion(2))), mask(1)], [{}, {}])
    first, second = with_types([said, mask(1, 2)], [{}, {1: "IVH", 2: "IPH"}])
    assert types(first) == types(second) == {1: "IVH", 2: "IPH"}
    first, second = with_types([said, mask(1, 2)], [{}, {1: "IPH", 2: "IVH"}])
    assert types(second) == {1: "IPH", 2: "IVH"}, "two masks may number differently"
    subdural = mask(3, lesions=(SUBDURAL,))
    assert types(with_types([subdural, mask(3)], [{}, {}])[1]) == {3: "unspecified"}


def test_a_label_has_one_type() -> None:
    assert types_of_labels(["1=iph", " 7 = Oedema ", "1=IPH"]) == {1: "IPH", 7: "oedema"}
    with pytest.raises(InputError, match="got IPH and SDH for label 1"):
        types_of_labels(["1=IPH", "1=SDH"])
    for wrong in ("IPH", "0=IPH", "256=IPH", "x=IPH", "1=bruise", "-1=IPH", "²=IPH", "", "="):
        with pytest.raises(InputError, match=r"A label is K=TYPE .* give e\.g\."):
            types_of_labels([wrong])
