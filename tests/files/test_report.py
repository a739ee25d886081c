"""The PDF as another reader finds it: its text, its pages, its fonts, and nothing outside of them."""

from __future__ import annotations

import datetime
import re
from dataclasses import replace
from typing import Any

import numpy as np
import phantoms
import pypdfium2
import pypdfium2.raw
import pytest

from ichseg import NOTICE
from ichseg.files.names import with_label
from ichseg.files.records import versions
from ichseg.files.report import report_pdf
from ichseg.files.report_pictures import key_slices
from ichseg.marks.box import Box
from ichseg.marks.lesion import TYPES, Lesion
from ichseg.measures.assessment import Assessment, OtherScan, assess
from ichseg.measures.followup import Blood
from ichseg.measures.growth import growth
from ichseg.measures.scores import Findings, scores
from ichseg.measures.spread import VolumeRange
from ichseg.measures.timeline import timeline
from ichseg.methods.model_error import model_error
from ichseg.scan.registration import Registration
from ichseg.scan.volume import CTVolume

SHA = {"litemedsam/model.safetensors": "4e284e2c" * 8}
MADE = datetime.date(2024, 2, 3)


def a_head(lesions: int = 1) -> tuple[CTVolume, Any]:
    shape, spacing = (20, 96, 80), (5.0, 2.0, 2.0)
    hu = np.full(shape, -1000, dtype=np.int16)
    hu[phantoms.ellipsoid(shape, spacing, (40, 96, 80), (90, 88, 72))] = 1000
    hu[phantoms.ellipsoid(shape, spacing, (40, 96, 80), (84, 82, 66))] = phantoms.BRAIN_HU
    labels = np.zeros(shape, dtype=np.uint8)
    for number in range(lesions):
        middle = (36 + 3 * number, 60 + 6 * number, 50 + 5 * number)
        labels[phantoms.ellipsoid(shape, spacing, middle, (12, 10, 9))] = number + 1
    hu[labels > 0] = phantoms.BLOOD_HU
    return CTVolume(hu, phantoms.geometry(np.arange(20) * 5.0, (2.0, 2.0)), name="head"), labels


def a_report(lesions: int = 1, **options: Any) -> tuple[Assessment, bytes]:
    volume, labels = a_head(lesions)
    kinds = list(TYPES)[1:]
    names = [Lesion(i + 1, f"Clot {i + 1}", type=kinds[i % len(kinds)]) for i in range(lesions)]
    given: dict[str, Any] = {
        "model": "litemedsam",
        "model_title": "LiteMedSAM",
        "weights_sha256": SHA,
        "prompts": {(4, 1): (Box(20, 30, 41, 52.5),)},
        "ranges": {None: VolumeRange(3.2, 4.1, 5.3, (3.2, 4.1, 5.3), 3.0, 0)},
    }
    other = options.pop("other", None)
    found = replace(
        assess(labels, volume, options.pop("names", names), **given | options), other=other
    )
    return found, report_pdf(found, made=MADE)


def pages_of(content: bytes) -> list[str]:
    """The text of each page, white space as single blanks."""
    document = pypdfium2.PdfDocument(content)
    return [re.sub(r"\s+", " ", page.get_textpage().get_text_range()) for page in document]


def check_nothing_overflows(content: bytes) -> None:
    """Every sign lies within the margins, and no two lines of text lie over each other."""
    for page in pypdfium2.PdfDocument(content):
        width, height = page.get_size()
        assert (round(width), round(height)) == (595, 842)  # A4
        text = page.get_textpage()
        taken = np.zeros((round(height) + 1, round(width) + 1), dtype=np.int32)
        for index in range(text.count_rects()):
            left, bottom, right, top = text.get_rect(index)
            assert left > 44 and right < width - 44 and bottom > 25 and top < height - 25
            middle = (bottom + top) / 2  # two lines that touch with g and l are apart in the middle
            taken[int(middle - 1) : int(middle + 1), int(left + 1) : int(right - 1)] += 1
        assert taken.max() == 1


def test_one_lesion_is_one_page_with_its_numbers() -> None:
    found, content = a_report()
    (text,) = pages_of(content)
    one = found.measures[0]
    assert one.abc2 and one.hu and one.longest_in_3d and one.inner_table and one.side
    for wanted in (
        f"Hematoma report: {found.volume.called} Made on 03 February 2024",
        NOTICE,
        f"{found.total.volume_ml:.1f} mL",
        "3.2 to 5.3 mL when the boxes are drawn anew 3 times on their slices, each side moved by up to 3 mm",
        "How far this method's volumes are off on other patients was not measured.",
        "difference below 5.8 mL, one person below 3.8 mL (Rodriguez-Luna et al. 2016)",
        "20 slices of 80 × 96 pixels; pixels of 2.00 × 2.00 mm; slice heights 5.0 mm",
        f"{one.volume_ml:.2f}",
        f"{one.abc2.volume_ml:.1f}",
        f"{one.abc2.a.length_mm:.0f} × {one.abc2.b.length_mm:.0f} × {one.abc2.c_mm:.0f}",
        f"{one.longest_in_3d.length_mm:.1f}",
        f"{one.hu.mean:.1f} ± {one.hu.sd:.1f}",
        f"{one.surface_area_mm2 / 100:.1f}",
        "cm²",
        f"{one.inner_table.distance_mm:.1f}",
        "right",
        "Clot 1 intraparenchymal",
        "LiteMedSAM (litemedsam)",
        "--slice 4 --box 20,30,41,52.5 (slice 5)",
        SHA["litemedsam/model.safetensors"],
        found.volume.sha256[:16],
        f"ichseg {versions()['ichseg']}",
        "Page 1 of 1",
    ):
        assert wanted in text, wanted
    check_nothing_overflows(content)


def test_its_fonts_are_embedded_and_its_metadata_is_the_notice() -> None:
    _, content = a_report()
    document = pypdfium2.PdfDocument(content)
    meta = document.get_metadata_dict()
    assert (meta["Title"], meta["Subject"]) == ("Hematoma report", NOTICE)
    # A subset's name has six letters and a plus; what is not embedded keeps its plain name.
    used = set(re.findall(rb"/BaseFont /([^\s/]+)", content))
    assert {name for name in used if re.match(rb"[A-Z]{6}\+", name)} and b"/FontFile2" in content


def test_growth_scores_and_what_is_missing() -> None:
    grown = growth(20.0, 27.5, hours=5, ivh_ml=(0.0, 0.4))
    _, content = a_report(
        2, growth=grown, role="follow-up", scores=scores(Findings(nihss=12, anticoagulant=True))
    )
    pages = pages_of(content)
    text = " ".join(pages)
    assert len(pages) <= 2
    for wanted in (
        ", follow-up Made on",
        "Of all blood, from 20.0 to 27.5 mL: +7.5 mL (+37.5 %), +1.50 mL/h over 5 h; intraventricular +0.40 mL",
        "beyond readers' error (5.8 mL between two people who measure by hand, 3.8 mL within one",
        "classic yes growth ≥ 6 mL or ≥ 33 %",
        "absolute no growth ≥ 12.5 mL",
        "NAG 2 to 3, not complete",
        "glucose, mg/dL",
        "All blood",
        "ABC/2 of All blood: ABC/2 is of one lesion",
        "Range of Clot 1, Clot 2: The range from other boxes was not asked for.",
        "one person below 6.7 mL",
    ):
        assert wanted in text, wanted
    assert all(
        NOTICE in page and f"Page {n} of {len(pages)}" in page for n, page in enumerate(pages, 1)
    )
    check_nothing_overflows(content)


def test_three_scans_are_shown_over_time_and_two_are_not() -> None:
    lesions = [Lesion(i, f"Clot {i}", type="IPH") for i in (1, 2)]
    scans = [
        Blood.of(zip(lesions, ml, strict=True), f"{at}" * 64)
        for at, ml in enumerate([(10.0, 1.0), (20.0, 2.0), (15.5, 0.5)])
    ]
    found, content = a_report(2, growth=growth(11.0, 22.0), role="baseline")
    over_time = timeline(scans, hours=[4, 24])
    content = report_pdf(replace(found, timeline=over_time), made=MADE)
    pages = pages_of(content)
    assert len(pages) <= 2
    for wanted in (
        *("Growth to the first follow-up", "Volume against time", "Hours since the baseline"),
        *("All: intraparenchymal blood", "within readers' error, ± 5.8 mL"),
        "2 11111111 4 22.0 +11.0 mL (+100 %), +2.75 mL/h",
        "+5.0 mL (+45 %), +0.21 mL/h, within error -6.0 mL (-27 %), -0.30 mL/h",
        "15.5 +5.5, within error",
        "below 5.8 mL (Rodriguez-Luna et al. 2016)",
    ):
        assert wanted in " ".join(pages), wanted
    check_nothing_overflows(content)
    two = report_pdf(replace(found, timeline=timeline(scans[:2])), made=MADE)
    assert "Volume against time" not in " ".join(pages_of(two))


def test_a_great_many_lesions_still_take_two_pages() -> None:
    names = [Lesion(i + 1, f"A rather <long> & wide name, number {i + 1}") for i in range(14)]
    prompts = {(k, 1): (Box(20.25, 30.5, 41.125, 52.5),) * 3 for k in range(20)}
    _, content = a_report(
        14,
        names=names,
        prompts=prompts,
        growth=growth(20.0, 27.5),
        scores=scores(Findings(nihss=12)),
    )
    pages = pages_of(content)
    assert len(pages) == 2
    assert "more lesions are in the tables" in pages[1] and "more in the session file" in pages[1]
    assert "A rather <long> & wide name, number 1" in pages[0]
    check_nothing_overflows(content)


def test_an_empty_mask_and_a_name_in_another_script() -> None:
    volume, labels = a_head()
    (text,) = pages_of(report_pdf(assess(labels * 0, volume, [Lesion(1)])))
    assert (
        "0.0 mL" in text and "There is no voxel of it." in text and "Method Drawn by hand" in text
    )
    (text,) = pages_of(report_pdf(assess(labels, volume, [Lesion(1, "Žižek-Müller 左")])))
    assert "Žižek-Müller ?" in text


def test_the_first_page_says_what_is_in_doubt_what_made_the_masks_and_where_that_stopped() -> None:
    stops = [
        {"slice": 9, "direction": 1, "sentence": "stopped above slice 10: mean 34 HU, below 41"},
        {"slice": 2, "direction": -1, "sentence": "stopped below slice 3: nothing was found"},
    ]
    volume, labels = a_head()
    doubt = "The sform says 1.0 mm and the qform 2.0 mm: the volume is in doubt."
    volume = replace(with_label(volume, "ward-3"), warnings=(doubt,), notes=("tilted",))
    found = assess(
        labels,
        volume,
        [Lesion(1, "Clot")],
        model="litemedsam-rslora",
        model_title="LiteMedSAM + rsLoRA",
        second_look=True,
        slices_by={"box": 1, "propagated": 6},
        stops={1: stops, 2: stops},
    )
    text = pages_of(report_pdf(found, made=MADE))[0]
    own = model_error("litemedsam-rslora")
    assert own is not None
    for wanted in (
        "Hematoma report: ward-3 Made on",
        f"ward-3 (SHA-256 of its voxels {volume.sha256[:16]}",
        f"Warning: {doubt}",
        "tilted",
        f"volumes were off by {own.figure}.",
        "LiteMedSAM + rsLoRA (litemedsam-rslora), boxes answered with refinement. "
        "Slices: 1 from boxes drawn there, 6 by propagation.",
        "Propagation of Clot stopped below slice 3: nothing was found (--slice 2); stopped above slice 10: mean 34 HU, "
        "below 41 (--slice 9).",
    ):
        assert wanted in text, wanted


def test_a_report_of_growth_shows_both_scans_and_what_is_in_doubt_of_either() -> None:
    _, content = a_report()
    alone = pictures_of(content)
    other_volume, other_labels = a_head(2)
    other_volume = replace(other_volume, warnings=("A slice is missing.",), notes=("uneven",))
    other = OtherScan(other_volume, other_labels, (Lesion(1), Lesion(2)), "LiteMedSAM")
    _, content = a_report(growth=growth(20.0, 27.5), role="baseline", other=other)
    pages = pages_of(content)
    assert len(pages) == 2 and pictures_of(content) == alone + 3
    assert f"Warning: Of the other scan ({other_volume.called}): A slice is missing." in pages[0]
    text = " ".join(pages)
    assert f"Follow-up scan: {other_volume.called} (SHA-256 of its voxels" in text
    assert "Masks: LiteMedSAM. uneven" in text
    k = int(np.argmax(np.count_nonzero(other_labels, axis=(1, 2))))
    area_cm2 = np.count_nonzero(other_labels[k]) * 4 / 100
    assert f"Follow-up, slice {k + 1} of 20 (--slice {k}): {area_cm2:.1f} cm² of blood" in text
    check_nothing_overflows(content)


def test_two_registered_scans_are_shown_side_by_side_along_one_scans_slices() -> None:
    _, content = a_report()
    alone = pictures_of(content)
    other_volume, other_labels = a_head()
    onto = Registration(np.eye(4), None)
    other = OtherScan(other_volume, other_labels, (Lesion(1),), "LiteMedSAM", onto)
    found, content = a_report(growth=growth(20.0, 27.5), role="follow-up", other=other)
    text = " ".join(pages_of(content))
    assert pictures_of(content) == alone + 4
    slices = sorted(np.argsort(-np.count_nonzero(found.labels_zyx, axis=(1, 2)), kind="stable")[:2])
    for k in slices:
        area_cm2 = np.count_nonzero(found.labels_zyx[k]) * 4 / 100
        own = f"Follow-up, slice {k + 1} of 20 (--slice {k}): {area_cm2:.1f} cm² of blood"
        assert f"Baseline along slice {k + 1}" in text and own in text
    assert "No volume is measured there." in text
    check_nothing_overflows(content)
    # One head: either half of a pair is the same picture.
    page = pypdfium2.PdfDocument(content)[1]
    images = list(page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]))[-4:]
    first, second = (
        np.asarray(one.get_bitmap().to_pil().convert("L"), float) for one in images[:2]
    )
    assert first.std() > 20
    np.testing.assert_allclose(first, second, atol=2)


def pictures_of(content: bytes) -> int:
    image = [pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]
    return sum(len(list(page.get_objects(filter=image))) for page in pypdfium2.PdfDocument(content))


def test_the_pictures_show_the_outlines_in_the_lesions_colours() -> None:
    """On the rendered page, where the slice's picture is: grey brain, and the orange and blue of the two lesions."""
    _, content = a_report(2)
    page = pypdfium2.PdfDocument(content)[0]
    pictures = list(page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]))
    assert len(pictures) == 3
    rgb = np.asarray(page.render(scale=2).to_pil().convert("RGB")).astype(int)
    left, bottom, right, top = pictures[1].get_bounds()
    height = page.get_height()
    part = rgb[
        round(2 * (height - top)) : round(2 * (height - bottom)), round(2 * left) : round(2 * right)
    ]
    chroma = part[..., 0] - part[..., 2]  # red over blue
    assert (chroma > 60).sum() > 30  # the orange of the first lesion
    assert (chroma < -60).sum() > 30  # the blue of the second
    assert (np.abs(chroma) < 12).mean() > 0.8


@pytest.mark.parametrize(("lesions", "most"), [(1, 6), (2, 6), (9, 6), (9, 3)])
def test_each_lesions_largest_slice_is_shown(lesions: int, most: int) -> None:
    found, _ = a_report(lesions)
    shown = key_slices(found, most)
    largest = [max(one.slices, key=lambda row: row.area_mm2).slice_index for one in found.measures]
    assert len(set(shown)) == len(shown) and shown == sorted(shown)
    assert 3 <= len(shown) <= most
    assert set(dict.fromkeys(largest[:3])) <= set(shown)
