"""What is marked is measured, drawn on, turned about and taken away, each as a person would do it."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from PIL import Image
from playwright.sync_api import Browser

from ichseg.files.nifti_mask import read_mask
from ichseg.marks.box import boxes_from_mask
from ichseg.marks.lesion import Lesion
from ichseg.measures.abc2 import abc2
from ichseg.measures.assessment import assess
from ichseg.measures.landmarks import Landmarks
from ichseg.sample import sample_paths
from ichseg.scan.volume import CTVolume
from tests.e2e.conftest import CHROMIUM_ARGUMENTS, People, Server, visiting
from tests.e2e.driver import PATIENCE_MS, Viewer
from tests.e2e.files import check_files
from tests.e2e.sample_boxes import wait_for_measures

Visit = Callable[..., Viewer]
Mask = npt.NDArray[np.bool_]

WEBGL_ARGUMENTS = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@pytest.fixture(scope="module")
def webgl_browser(browser: Browser, chromium: str) -> Iterator[Browser]:
    """A browser that draws in 3D, on the CPU."""
    kept = [argument for argument in CHROMIUM_ARGUMENTS if argument != "--disable-gpu"]
    arguments = [*kept, *WEBGL_ARGUMENTS]
    opened = browser.browser_type.launch(executable_path=chromium, args=arguments)
    yield opened
    opened.close()


def marked(viewer: Viewer, reference: Mask) -> Viewer:
    """Mark the two slices of the sample with most blood, and open the measures."""
    viewer.open_sample()
    assert not viewer.page.locator(".ich-measure").is_visible()  # basic use stays as it was
    for k in sorted(np.argsort(reference.sum(axis=(1, 2)))[-2:].tolist()):
        (box,) = [one for one in boxes_from_mask(reference[k]) if one.width * one.height > 1500]
        viewer.go_to(k).draw(box.grow(4, reference.shape[1:]).xyxy, wait=False)
    return viewer.settle().press("d")


@pytest.fixture(scope="module")
def person(people: People, server: Server, reference: Mask) -> Iterator[Viewer]:
    """Somebody who has done that."""
    with visiting(people, server.url) as open_page:
        yield marked(open_page(), reference)


@pytest.fixture
def measured(person: Viewer) -> Viewer:
    """That person with all measured, A and B on screen, and nothing set by hand."""
    wait_for_measures(person)
    person.page.locator(".ich-abc-go").click()
    return person


@pytest.fixture
def in_3d(webgl_browser: Browser, server: Server, reference: Mask) -> Iterator[Viewer]:
    """Somebody who has done that in a browser with WebGL, with all measured."""
    with visiting(People(webgl_browser), server.url) as open_page:
        viewer = marked(open_page(), reference)
        wait_for_measures(viewer)
        yield viewer


@pytest.fixture(scope="module")
def mask(person: Viewer, sample: CTVolume, tmp_path_factory: pytest.TempPathFactory) -> Mask:
    """The mask that they download."""
    path = person.download("mask", tmp_path_factory.mktemp("mask"))
    return np.asarray(read_mask(path, sample) != 0)


def shown(viewer: Viewer) -> dict[str, str]:
    """The table of the only lesion, by what is measured."""
    rows = viewer.page.locator(".ich-measures tr").all()
    return {row.locator("th").inner_text(): row.locator("td").inner_text() for row in rows}


def end_of(viewer: Viewer, name: str, end: int) -> tuple[float, float]:
    """Where an end of A or B is, as its button says it."""
    button = viewer.page.locator(f".ich-abc [data-name={name}][data-end='{end}']")
    found = re.search(r"at ([\d.]+), ([\d.]+);", button.get_attribute("aria-label") or "")
    assert found
    return float(found[1]), float(found[2])


def sum_of(viewer: Viewer) -> tuple[float, float, float, float]:
    """ABC/2 in mL, A, B and C in mm, as the line above the tools has it."""
    text = viewer.page.inner_text(".ich-abc-sum")
    ml, a, b, c = re.findall(r"([\d.]+) (?:mL|×|mm)", text)
    return float(ml), float(a), float(b), float(c)


# Numbers and plots


def test_the_numbers_are_the_librarys_of_the_mask_that_is_downloaded(
    measured: Viewer, mask: Mask, sample: CTVolume
) -> None:
    (own,) = assess(
        mask.astype(np.uint8), sample, [Lesion(1)], landmarks=Landmarks(sample)
    ).measures
    rows = shown(measured)
    assert own.abc2 and own.hu and own.longest_in_plane and own.longest_in_3d
    abc = (own.abc2.a.length_mm, own.abc2.b.length_mm, own.abc2.c_mm)
    assert rows["A × B × C, mm"] == " × ".join(f"{value:.1f}" for value in abc)
    assert float(rows["ABC/2, mL"]) == pytest.approx(own.abc2.volume_ml, abs=0.051)
    assert rows["Longest in a slice, mm"].startswith(f"{own.longest_in_plane.length_mm:.1f} ")
    assert rows["Longest in 3D, mm"] == f"{own.longest_in_3d.length_mm:.1f}"
    assert rows["Surface, cm²"] == f"{own.surface_area_mm2 / 100:.1f}"
    assert rows["HU, mean ± SD"] == f"{own.hu.mean:.1f} ± {own.hu.sd:.1f}"
    assert own.side and own.inner_table and own.inner_table.distance_mm
    assert rows["Side"] == (own.side.side or "–")
    assert rows["To the inner table, mm"] == f"{own.inner_table.distance_mm:.1f}"

    shape = sitk.LabelShapeStatisticsImageFilter()
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.CopyInformation(sitk.ReadImage(str(sample_paths()[0])))
    shape.Execute(image)
    headline = measured.page.inner_text(".ich-headline")
    assert float(headline.split(" mL")[0]) == pytest.approx(
        shape.GetPhysicalSize(1) / 1000, abs=0.051
    )


def test_the_range_stands_beside_the_volume_and_peoples_own_error(measured: Viewer) -> None:
    headline = measured.page.inner_text(".ich-headline")
    found = re.search(r"([\d.]+) to ([\d.]+) mL when the boxes are drawn anew 16 times", headline)
    assert found
    low, high, ml = float(found[1]), float(found[2]), float(headline.split(" mL")[0])
    assert 0 < low <= high and 0.5 * ml < low < 1.2 * ml and 0.8 * ml < high < 2 * ml
    assert re.search(r"volumes were off by \d+ % ± \d+ % of the volume .*cross-validated", headline)
    boxes = measured.page.inner_text(".ich-boxes")
    assert re.search(
        rf"--slice {measured.slice} --box [\d.,]+ \(slice {measured.slice + 1}\)", boxes
    )
    assert "difference below 5.8 mL, one person below 3.8 mL (Rodriguez-Luna" in headline


def test_the_plots_say_what_they_show_and_a_bar_leads_to_its_slice(
    measured: Viewer, mask: Mask, sample: CTVolume
) -> None:
    page = measured.page
    text = page.locator(".ich-areas svg").get_attribute("aria-label") or ""
    areas = {int(k) - 1: float(area) for k, area in re.findall(r"slice (\d+) ([\d.]+) cm²", text)}
    dy, dx = sample.geometry.spacing_yx_mm
    expected = mask.sum(axis=(1, 2)) * dy * dx / 100
    assert areas == pytest.approx({k: expected[k] for k in areas}, abs=0.051)
    assert set(areas) == set(np.flatnonzero(expected).tolist())
    for k in areas:
        page.locator(f".ich-areas .ich-bar[data-slice='{k}']").click()
        assert measured.slice == k
        assert page.locator(".ich-areas .ich-bar[data-here=true]").count() == 1
    assert "half of the voxels from" in (
        page.locator(".ich-histogram svg").get_attribute("aria-label") or ""
    )


# ABC/2


def test_an_end_of_a_is_dragged_and_abc2_follows_at_once(
    measured: Viewer, mask: Mask, sample: CTVolume
) -> None:
    page, asked = measured.page, len(measured.sent)
    before, start, kept = sum_of(measured), end_of(measured, "a", 0), end_of(measured, "a", 1)
    to = tuple(round(s + 0.25 * (e - s), 1) for s, e in zip(start, kept, strict=True))
    page.mouse.move(*measured.point(0, *start))
    page.mouse.down()
    page.mouse.move(*measured.point(0, *to), steps=4)
    held = sum_of(measured)  # the button is still down
    dy, dx = sample.geometry.spacing_yx_mm
    place = end_of(measured, "a", 0)
    assert place == pytest.approx(to, abs=1.0)
    length = math.hypot((place[0] - kept[0]) * dx, (place[1] - kept[1]) * dy)
    assert held[1] == pytest.approx(length, abs=0.11) and held[1] < 0.8 * before[1]
    assert held[0] == pytest.approx(held[1] * held[2] * held[3] / 2000, rel=0.02)
    page.mouse.up()
    wait_for_measures(measured)
    a_px = (*end_of(measured, "a", 0), *kept)
    own = abc2(mask, sample, a_px=a_px)
    assert own is not None
    assert sum_of(measured)[0] == pytest.approx(own.volume_ml, abs=0.06)
    assert sum_of(measured)[2] == pytest.approx(own.b.length_mm, abs=0.3)  # B was found anew
    assert "(A set by hand)" in page.inner_text(".ich-abc-sum")
    assert len(measured.sent) == asked  # and no box was drawn
    page.click(".ich-abc-reset")
    wait_for_measures(measured)
    assert sum_of(measured) == before


def test_an_end_is_moved_by_keys_and_c_is_typed(measured: Viewer) -> None:
    page, before, k = measured.page, sum_of(measured), measured.slice
    button = page.locator(".ich-abc [data-name=b][data-end='1']")
    button.focus()
    x, y = end_of(measured, "b", 1)
    measured.press("ArrowRight", "ArrowDown", "Shift+ArrowRight")
    assert end_of(measured, "b", 1) == pytest.approx((x + 6, y + 1), abs=0.11)
    assert measured.slice == k and "ABC/2" in page.inner_text(".ich-hidden")
    wait_for_measures(measured)
    assert end_of(measured, "b", 1) == pytest.approx((x + 6, y + 1), abs=0.11)
    page.fill(".ich-abc input", "20")
    page.press(".ich-abc input", "Enter")
    wait_for_measures(measured)
    ml, a, b, c = sum_of(measured)
    assert (a, c) == (before[1], 20) and ml == pytest.approx(a * b * c / 2000, abs=0.06)
    assert "(B, C set by hand)" in page.inner_text(".ich-abc-sum")
    page.click(".ich-abc-reset")
    wait_for_measures(measured)
    assert sum_of(measured) == before


# Files


@pytest.mark.slow
def test_every_file_opens_elsewhere_with_the_same_blood_in_it(
    measured: Viewer, mask: Mask, sample: CTVolume, tmp_path: Path
) -> None:
    record, text = check_files(measured, mask, sample, tmp_path)
    low, high = (f"{record['total']['range'][key]:.1f}" for key in ("low_ml", "high_ml"))
    assert f"{low} to {high} mL" in text


def test_the_menu_is_opened_and_left_by_keys_and_says_what_it_has_not(measured: Viewer) -> None:
    page, k = measured.page, measured.slice
    page.focus("[data-do=more]")
    measured.press("Enter", "ArrowDown", "ArrowDown")
    assert page.evaluate("document.activeElement.dataset.save") == "json"
    measured.press("End")
    item = page.locator("[role=menuitem]:focus")
    assert item.get_attribute("aria-disabled") == "true"
    assert "of a DICOM scan only; this one is NIfTI" in item.inner_text()
    measured.press("Enter", "ArrowDown")
    assert page.evaluate("document.activeElement.dataset.save") == "pdf"
    measured.press("Escape")
    assert not page.locator(".ich-more").is_visible() and measured.slice == k
    assert page.evaluate("document.activeElement.dataset.do") == "more"


# In 3D


def picture(viewer: Viewer) -> npt.NDArray[np.float64]:
    """RGB of the 3D view, [y, x, 3], without its corners."""
    viewer.page.evaluate("() => new Promise(requestAnimationFrame)")
    raw = viewer.page.locator(".ich-surface canvas").screenshot()
    image = np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")).astype(float)
    rows, columns = image.shape[:2]
    return image[rows // 8 : -rows // 8, columns // 8 : -columns // 8]


@pytest.mark.slow
def test_the_hematoma_is_turned_about_in_its_skull(in_3d: Viewer, server: Server) -> None:
    page = in_3d.page
    page.click("[data-do=surface]")
    canvas = page.locator(".ich-surface canvas")
    page.wait_for_selector(".ich-surface canvas:not([data-drawn=''])[data-drawn]")
    in_3d.answered()
    canvas.scroll_into_view_if_needed()
    # It was deleted when it was fetched.
    assert "view.glb" not in {path.name for path in server.files()}
    label = canvas.get_attribute("aria-label") or ""
    assert "seen from the front and left. Lesion 1, " in label and "mL, left" in label

    def parts() -> tuple[float, float]:
        """The middle of what has the lesion's orange, across from 0 to 1; how much is skull."""
        rgb = picture(in_3d)
        red, green, blue = np.moveaxis(rgb, -1, 0)
        orange = (red > 80) & (green > 0.45 * red) & (green < 0.85 * red) & (blue < 0.35 * red)
        grey = (red > 20) & (abs(red - blue) < 30)
        assert orange.sum() > 50
        return float(np.nonzero(orange)[1].mean() / rgb.shape[1]), float(grey.mean())

    page.click("[data-look=front]")
    front, skull = parts()
    assert front > 0.5 and skull > 0.05  # facing the patient, the left is on the right
    canvas.focus()
    k = in_3d.slice
    in_3d.press(*["ArrowRight"] * 18)
    assert "seen from the back" in (canvas.get_attribute("aria-label") or "")
    behind, _ = parts()
    assert behind < 0.5 and in_3d.slice == k
    in_3d.press("+", "+")
    nearer = picture(in_3d)
    in_3d.press("0")
    assert not np.array_equal(nearer, picture(in_3d))
    page.click("[data-do=surface]")
    assert not canvas.is_visible()


def test_without_webgl_a_sentence_says_what_to_do(visit: Visit) -> None:
    viewer = visit().open_sample().press("d")
    page = viewer.page
    assert page.inner_text(".ich-measure-state").startswith("Draw a box")
    assert page.locator("[data-do=more]").is_disabled()
    page.evaluate(
        """() => { const own = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
          return kind === 'webgl2' ? null : own.call(this, kind, ...rest);
        }; }"""
    )
    page.click("[data-do=surface]")
    assert "needs WebGL 2, which this browser has not" in page.inner_text(".ich-surface-state")
    viewer.press("d")
    assert not page.locator(".ich-measure").is_visible()


# Looks


@pytest.mark.slow
def test_a_phone_shows_the_measures_without_scrolling_sideways(visit: Visit) -> None:
    viewer = visit(viewport={"width": 390, "height": 844}).open_sample()
    viewer.page.locator(".ich-stage").first.scroll_into_view_if_needed()
    viewer.draw((200, 180, 320, 300)).press("d")
    page = viewer.page
    page.wait_for_selector(".ich-measures table", timeout=PATIENCE_MS)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    top = page.locator(".ich-measure").bounding_box()
    assert top is not None and 0 <= top["y"] < 844  # it was brought into sight
    page.click("[data-do=more]")
    menu = page.locator(".ich-more").bounding_box()
    assert menu is not None and menu["x"] >= 0 and menu["x"] + menu["width"] <= 390
