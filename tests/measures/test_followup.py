"""From two labelled masks to growth: of what it is counted, which error applies, what the scores are given."""

from __future__ import annotations

import json
import math

import numpy as np
import phantoms
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ichseg.errors import InputError
from ichseg.marks.lesion import TYPES, Lesion
from ichseg.measures.followup import Blood, between, findings
from ichseg.measures.growth import growth_record
from ichseg.measures.scores import Findings, scores
from ichseg.methods.model_error import model_error


def blood(**ml: float) -> Blood:
    """Blood by type, a lesion of each."""
    lesions = [Lesion(k, type=type_) for k, type_ in enumerate(ml, 1)]
    return Blood.of(zip(lesions, ml.values(), strict=True))


NOTHING = blood()


@pytest.mark.parametrize(
    ("before", "after", "of", "growth_ml", "ivh_growth_ml", "reading_ml"),
    [
        # Parenchymal, where both scans tell it; oedema is no blood.
        (blood(IPH=10.2), blood(IPH=20.4), "iph", 10.2, None, 5.8),
        (blood(IPH=10.2, oedema=9), blood(IPH=10.2, oedema=30), "iph", 0, None, 5.8),
        (blood(IPH=10.2, IVH=1), blood(IPH=20.4, IVH=4), "iph", 10.2, 3, 7.7),
        (blood(IPH=10.2), blood(IPH=10.2, IVH=4), "iph", 0, 4, 7.7),
        (blood(IPH=10.2, IVH=4), blood(IPH=10.2), "iph", 0, -4, 7.7),
        (blood(IPH=10, SDH=5), blood(IPH=12, SDH=25), "iph", 2, None, 5.8),
        (blood(IPH=10), NOTHING, "iph", -10, None, 5.8),
        (NOTHING, blood(IPH=10, IVH=2), "iph", 10, 2, 7.7),
        # Else what is outside the ventricles, where these are labelled separately on either scan.
        (blood(SDH=10.2, IVH=0.8), blood(SDH=20.4, IVH=0.8), "not ivh", 10.2, 0, 7.7),
        (blood(SDH=10.2), blood(SDH=20.4, IVH=0.8), "not ivh", 10.2, 0.8, 7.7),
        (blood(unspecified=10.2, IVH=1), blood(unspecified=20.4, IVH=1), "not ivh", 10.2, 0, 7.7),
        (blood(unspecified=10.2), blood(IPH=20.4, IVH=1), "not ivh", 10.2, 1, 7.7),
        (blood(IPH=10, IVH=2), blood(IVH=2), "not ivh", -10, 0, 7.7),
        (blood(IVH=2), blood(IPH=10, IVH=2), "not ivh", 10, 0, 7.7),
        (blood(IPH=10, unspecified=3, IVH=2), blood(IPH=10, IVH=2), "not ivh", -3, 0, 7.7),
        # Else all blood.
        (blood(unspecified=10.2), blood(unspecified=20.4), "all blood", 10.2, None, 5.8),
        (blood(IPH=10.2), blood(unspecified=20.4), "all blood", 10.2, None, 5.8),
        (blood(IPH=10, unspecified=3), blood(IPH=20, unspecified=3), "all blood", 10, None, 5.8),
        (blood(SDH=10), blood(EDH=20), "all blood", 10, None, 5.8),
        (blood(SDH=10), blood(IPH=20), "all blood", 10, None, 5.8),
        (blood(IPH=10), blood(SDH=20), "all blood", 10, None, 5.8),
        (blood(IVH=5), blood(IVH=15), "all blood", 10, 10, 7.7),
        (NOTHING, blood(IVH=5), "all blood", 5, 5, 7.7),
        (blood(SAH=10), NOTHING, "all blood", -10, None, 5.8),
        (blood(oedema=10), blood(oedema=30), "all blood", 0, None, 5.8),
        (NOTHING, NOTHING, "all blood", 0, None, 5.8),
    ],
)
def test_what_a_growth_is_counted_of(
    before: Blood,
    after: Blood,
    of: str,
    growth_ml: float,
    ivh_growth_ml: float | None,
    reading_ml: float,
) -> None:
    found = between(before, after)
    assert found.of == of
    assert found.growth_ml == pytest.approx(growth_ml)
    assert found.ivh_growth_ml == (None if ivh_growth_ml is None else pytest.approx(ivh_growth_ml))
    assert found.reading_error.between_raters_ml == reading_ml
    doubled = growth_ml >= 6 or (found.baseline_ml and growth_ml >= 0.33 * found.baseline_ml)
    assert found.verdict("classic").expansion is bool(doubled)


def test_new_intraventricular_blood_is_expansion_by_the_revised_definition() -> None:
    for before in (blood(IPH=10), blood(SDH=10), blood(unspecified=10), NOTHING):
        after = Blood({**before.ml_by_type, "IVH": 0.2}, before.untyped)
        assert between(before, after).verdict("revised").expansion is True
        assert between(after, before).verdict("revised").expansion is False
        assert between(before, before).verdict("revised").expansion is None


def test_what_is_assumed_or_left_out_is_said() -> None:
    said = between(blood(IPH=10, SDH=5), blood(IPH=12, SDH=25)).notes
    assert said == ("Blood outside parenchyma and ventricles is not counted: SDH 5.0 to 25.0 mL.",)
    untyped, no_ivh = between(blood(unspecified=10), blood(IPH=10, IVH=2)).notes
    assert "Lesion 1 (baseline) is not said: it counts as blood outside the ventricles" in untyped
    assert "No intraventricular blood is marked on the baseline" in no_ivh
    assert (
        "The types differ, SDH on the baseline and IPH on"
        in between(blood(SDH=1), blood(IPH=1)).notes[0]
    )
    assert between(NOTHING, blood(IPH=1)).notes == (
        "There is no blood in the mask of the baseline.",
    )
    assert "All of the blood is intraventricular." in between(blood(IVH=1), blood(IVH=2)).notes
    for same in (blood(IPH=10), blood(IPH=10, IVH=1), blood(unspecified=10), NOTHING):
        one_by_one = between(same, same).notes
        assert not [note for note in one_by_one if "differ" in note or "not counted" in note]


def test_parenchymal_blood_that_nobody_marked_is_unknown_and_not_0() -> None:
    def points(*scans: Blood) -> tuple[float | None, bool | None, int | None]:
        known = findings(Findings(), *scans)
        brain = scores(known)[0]
        return known.parenchymal_ml, known.intraventricular, brain.items[0].points

    assert points(blood(SDH=10.2, IVH=2)) == (None, True, None)
    assert points(blood(unspecified=30, IVH=2)) == (None, True, None)
    assert points(blood(IPH=30, unspecified=1)) == (None, None, None)
    assert points(NOTHING) == (None, None, None)
    assert points(blood(IPH=30, oedema=9)) == (30, None, 7)
    assert points(blood(IPH=30), blood(IPH=30, IVH=1)) == (30, False, 7)
    assert points(blood(unspecified=30), blood(IPH=30, IVH=1)) == (None, None, None)
    asked = Findings(parenchymal_ml=12.0, intraventricular=False)
    assert findings(asked, blood(IPH=30, IVH=3)) == asked, "what people said comes first"


def test_blood_of_a_mask_is_summed_by_type_and_a_label_of_no_lesion_is_refused() -> None:
    volume = phantoms.scan()
    labels = np.zeros(volume.shape_zyx, np.uint8)
    labels[1, 3, :6], labels[1, 4, :4], labels[2, 5, :3], labels[2, 7, :9] = 2, 7, 9, 1
    kinds = {2: "IPH", 7: "IPH", 9: "IVH", 1: "oedema", 5: "SDH"}
    voxel_ml = math.prod(volume.spacing_mm) / 1000
    lesions = [Lesion(k, type=type_) for k, type_ in kinds.items()]
    found = Blood.in_mask(labels, volume, lesions)
    assert found.ml_by_type == pytest.approx({"IPH": 10 * voxel_ml, "IVH": 3 * voxel_ml})
    with pytest.raises(InputError, match="it has 9; say what that one is"):
        Blood.in_mask(labels, volume, [lesion for lesion in lesions if lesion.id != 9])


MASKS = st.dictionaries(
    st.sampled_from(sorted(TYPES)), st.floats(0.001, 200, allow_subnormal=False), max_size=7
).map(lambda ml: blood(**ml))


@given(MASKS)
def test_a_mask_has_not_grown_against_itself(mask: Blood) -> None:
    found = between(mask, mask, hours=3)
    assert found.growth_ml == 0 and found.growth_percent in (0, None)
    assert found.ivh_growth_ml in (0, None)
    assert not any(verdict.expansion for verdict in found.verdicts)
    assert found.within_measurement_error


@given(MASKS, MASKS)
def test_the_scans_swapped_negate_the_millilitres(first: Blood, second: Blood) -> None:
    there, back = between(first, second), between(second, first)
    assert there.growth_ml == -back.growth_ml
    assert (there.ivh_growth_ml is None) == (back.ivh_growth_ml is None)
    assert (there.ivh_growth_ml or 0) == -(back.ivh_growth_ml or 0)
    assert (there.of, there.reading_error) == (back.of, back.reading_error)
    assert there.within_measurement_error == back.within_measurement_error
    for found in (there, back):
        json.dumps(growth_record(found), allow_nan=False)


@given(MASKS, MASKS)
def test_no_blood_outside_the_ventricles_is_lost_but_where_parenchyma_is_told_on_both(
    first: Blood, second: Blood
) -> None:
    found = between(first, second)
    for one, counted in ((first, found.baseline_ml), (second, found.followup_ml)):
        assert counted <= one.total_ml + 1e-9
        if found.of != "iph":
            assert counted >= one.total_ml - one.ivh_ml - 1e-9
        elif one.ml_by_type:
            assert counted == one.parenchymal_ml


@given(st.permutations(range(4)), st.lists(st.floats(0.1, 50), min_size=4, max_size=4))
def test_the_order_and_number_of_lesions_do_not_matter(order: list[int], ml: list[float]) -> None:
    kinds = ("IPH", "IPH", "IVH", "SDH")
    parts = [(Lesion(10 * k + 1, type=kinds[k]), ml[k]) for k in range(4)]
    same = Blood.of(parts[k] for k in order)
    assert between(Blood.of(parts), same).growth_ml == pytest.approx(0, abs=1e-9)


# The errors


def test_the_sentence_names_readers_error_and_the_models_own_apart() -> None:
    mine = "litemedsam-rslora"
    found = between(blood(IPH=10, IVH=1), blood(IPH=20, IVH=1), methods=(mine, mine))
    figure = (
        "17 % ± 13 % of the volume (mean and SD of 28 held-out patients of CT-ICH 1.0.0 (trauma CT), cross-validated, "
        "one box per slice), here 1.7 "
        "and 3.4 mL."
    )
    assert found.error_sentence == (
        "The change is beyond readers' error (7.7 mL with intraventricular blood between two people who measure by "
        "hand, 6.7 mL within one; Rodriguez-Luna et al. 2016); the model's own error, that of LiteMedSAM + rsLoRA, is "
        + figure
    )
    assert "measurement error" not in found.error_sentence
    record = growth_record(found)
    assert record["error_sentence"] == found.error_sentence
    assert record["counted"] == "intraparenchymal blood"
    assert record["model_error"]["patients"] == 28 and record["model_error"]["assumed"] is False


def test_what_made_the_masks_decides_whose_error_is_named() -> None:
    def said(*methods: str | None) -> str:
        first, second = methods
        return between(blood(IPH=10), blood(IPH=12), methods=(first, second)).error_sentence

    assert "within readers' error (5.8 mL between" in said(None, None)
    assert "do not say what made them: LiteMedSAM + rsLoRA's own error is 17 %" in said(None, None)
    for methods in (("threshold", "threshold"), ("litemedsam-rslora", None), ("/etc", "/etc")):
        assert said(*methods).endswith("the method that made the masks was not measured.")
    two = between(blood(IPH=10), blood(IPH=12), methods=("threshold", "litemedsam-rslora"))
    assert two.model_error is None
    assert two.notes == (
        "The two volumes are of two methods, Threshold in the box and LiteMedSAM + rsLoRA: choose the same one on "
        "both scans.",
    )


def test_the_models_error_is_that_of_its_training_record() -> None:
    own = model_error("litemedsam-rslora")
    assert own is not None and own.title == "LiteMedSAM + rsLoRA"
    assert own.figure.startswith("17 % ± 13 % of the volume (mean and SD of 28 held-out patients")
    forest = model_error("random-forest")
    assert forest is not None and forest.mean_percent > own.mean_percent
    assert model_error("threshold") is None and model_error("litemedsam") is None
    assert model_error("nobody/knows-it") is None


def test_the_figure_is_the_benchmarks(root: object) -> None:
    """`python -m train benchmark` prints it into docs/benchmark."""
    import csv
    from pathlib import Path

    own = model_error("litemedsam-rslora")
    assert own is not None and isinstance(root, Path)
    with (root / "docs" / "benchmark" / "benchmark.csv").open(newline="") as file:
        (row,) = (
            one
            for one in csv.DictReader(file)
            if one["method"] == own.model and one["boxes"] == "slice"
        )
    for name, got in (("mean", own.mean_percent), ("sd", own.sd_percent)):
        assert got == pytest.approx(100 * float(row[f"patient_volume_difference_{name}"]), rel=1e-3)
    assert own.patients == int(row["patients"])


def test_one_scan_given_twice_is_said() -> None:
    lesions = [(Lesion(1, type="IPH"), 10.0)]
    once, other = Blood.of(lesions, "a" * 64), Blood.of(lesions, "b" * 64)
    assert any("one and the same scan" in note for note in between(once, once).notes)
    for later in (other, Blood.of(lesions)):
        assert not any("same scan" in note for note in between(once, later).notes)
