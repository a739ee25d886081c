"""What the page must do, each as a person would do it."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import Browser

from ichseg.marks.box import Box
from ichseg.methods.catalogue import default_baseline
from ichseg.sample import sample_paths
from ichseg.scan.volume import CTVolume
from tests import phantoms
from tests.e2e.conftest import Server, serving
from tests.e2e.driver import Viewer
from tests.e2e.sample_boxes import (
    NOTICE,
    Mask,
    Visit,
    boxes_on,
    largest,
)

# From the sample to a mask on disk


def test_downloads_of_a_slice_a_table_and_a_record(
    visit: Visit, reference: Mask, tmp_path: Path
) -> None:
    viewer = visit().open_sample()
    for kind in ("mask", "table", "record"):
        assert viewer.page.locator(f"[data-save={kind}]").is_disabled()
    k = largest(reference, 1)[0]
    viewer.go_to(k).draw(boxes_on(reference, k)[0])
    viewer.page.fill(".ich-label", "ward-3")
    path = viewer.download("table", tmp_path)
    assert path.name.startswith("hematoma-ward-3-")
    (row,) = csv.DictReader(path.read_text().splitlines())
    assert (row["slice"], row["slice_index"], row["notice"]) == (str(k + 1), str(k), NOTICE)
    assert float(row["volume_ml"]) == pytest.approx(viewer.ml(0)[1], abs=0.06)
    record = json.loads(viewer.download("record", tmp_path).read_text())
    assert [entry["slice"] for entry in record["boxes"]] == [k]
    assert record["boxes"][0]["box_xyxy"] == viewer.sent[-1][0]
    assert record["weights_sha256"]
    picture = viewer.download("picture", tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG") and f"{k + 1:03d}" in picture.name


# Boxes


@pytest.mark.parametrize(
    "size",
    [
        (1440, 900),
        *(pytest.param(size, marks=pytest.mark.slow) for size in ((1024, 768), (390, 844))),
    ],
    ids=str,
)
def test_boxes_are_exact_to_the_pixel(visit: Visit, size: tuple[int, int]) -> None:
    viewer = visit(viewport={"width": size[0], "height": size[1]}).open_sample()
    viewer.page.locator(".ich-stage").first.scroll_into_view_if_needed()
    viewer.draw((100, 120, 180, 200))
    viewer.draw((300, 260, 210, 150), wait=False)  # from the lower right to the upper left
    viewer.draw((420, 60, 511.9, 140), wait=False)  # up to the edge
    viewer.settle()
    assert viewer.sent[-1] == [[100, 120, 180, 200], [210, 150, 300, 260], [420, 60, 512, 140]]


def test_both_panes_take_boxes(viewer: Viewer) -> None:
    viewer.draw((200, 200, 260, 260), pane=1)
    assert viewer.sent[-1] == [[200, 200, 260, 260]]
    assert viewer.ml(0)[0] > 0


def test_five_boxes_without_waiting_end_with_the_mask_of_all(
    viewer: Viewer, reference: Mask
) -> None:
    k = largest(reference, 1)[0]
    x0, y0, x1, y1 = boxes_on(reference, k)[0]
    step = (x1 - x0) / 5
    boxes = [(x0 + n * step, y0, x0 + (n + 1) * step, y1) for n in range(5)]
    viewer.go_to(k)
    for box in boxes:
        viewer.draw(box, wait=False)
    viewer.settle()
    quick = viewer.sent[-1], viewer.ml(0), viewer.ml(1), viewer.pixels(0)
    viewer.do("clear_slice").settle()
    for box in boxes:
        viewer.draw(box)
    assert len(quick[0]) == 5 and quick[0] == viewer.sent[-1]
    assert quick[1:3] == (viewer.ml(0), viewer.ml(1)) and quick[1][0] > 0
    assert np.array_equal(quick[3], viewer.pixels(0))


@pytest.mark.slow
def test_one_box_moved_five_times_without_waiting_ends_with_the_last_ones_mask(
    viewer: Viewer, reference: Mask
) -> None:
    k = largest(reference, 1)[0]
    x0, y0, x1, y1 = map(round, boxes_on(reference, k)[0])
    start = (60, 60, 60 + x1 - x0, 60 + y1 - y0)
    viewer.go_to(k).draw(start, wait=False)
    at = (60, 60)
    for n in range(1, 6):
        to = (60 + round((x0 - 60) * n / 5), 60 + round((y0 - 60) * n / 5))
        viewer.drag((at[0] + 8, at[1] + 20, to[0] + 8, to[1] + 20), wait=False)
        at = to
    viewer.settle()
    assert viewer.sent[-1] == [[x0, y0, x1, y1]]
    hurried = viewer.ml(0), viewer.pixels(0)
    viewer.do("clear_slice").settle().draw((x0, y0, x1, y1))
    assert hurried[0] == viewer.ml(0) and hurried[0][0] > 0
    assert np.array_equal(hurried[1], viewer.pixels(0))


def test_boxes_on_slices_in_quick_succession_are_all_kept(viewer: Viewer, reference: Mask) -> None:
    slices = largest(reference, 3)
    for k in slices:
        viewer.go_to(k).draw(boxes_on(reference, k)[0], wait=False)
    viewer.settle()
    total = viewer.ml(1)[1]
    parts = [viewer.go_to(k).ml(1)[0] for k in slices]
    assert all(parts) and total == pytest.approx(sum(parts), abs=0.06)


def test_a_box_is_resized_moved_cancelled_and_deleted(viewer: Viewer) -> None:
    viewer.draw((200, 200, 260, 260))
    viewer.drag((260, 260, 280, 250))  # its lower right corner
    assert viewer.sent[-1] == [[200, 200, 280, 250]]
    viewer.drag((200, 225, 190, 225))  # its left edge
    assert viewer.sent[-1] == [[190, 200, 280, 250]]
    viewer.drag((230, 225, 220, 245))  # its inside
    assert viewer.sent[-1] == [[180, 220, 270, 270]]
    asked = len(viewer.sent)
    viewer.page.mouse.move(*viewer.point(0, 100, 100))
    viewer.page.mouse.down()
    viewer.page.mouse.move(*viewer.point(0, 150, 150))
    viewer.press("Escape")
    viewer.page.mouse.up()
    assert len(viewer.sent) == asked
    viewer.page.mouse.click(*viewer.point(0, 220, 245))  # takes it up again
    viewer.press("Delete").settle()
    assert viewer.sent[-1] == [] and viewer.ml(0) == (0, 0)
    viewer.press("Control+z").settle()
    assert viewer.ml(0)[0] > 0


def test_undo_redo_and_the_two_ways_to_clear(viewer: Viewer, reference: Mask) -> None:
    first, second = largest(reference, 2)
    viewer.go_to(first).draw(boxes_on(reference, first)[0])
    one = viewer.ml(0)[1]
    viewer.go_to(second).draw(boxes_on(reference, second)[0])
    both = viewer.ml(0)[1]
    assert both > one > 0
    viewer.do("undo").settle()
    assert viewer.ml(0)[1] == one
    viewer.do("redo").settle()
    assert viewer.ml(0)[1] == both
    viewer.go_to(first).do("clear_slice").settle()
    assert viewer.ml(0)[0] == 0 and 0 < viewer.ml(0)[1] < both
    viewer.do("undo").settle().do("clear").settle()
    assert viewer.ml(0) == (0, 0)
    viewer.do("undo").settle()
    assert viewer.ml(0)[1] == both


# The comparison


def test_two_methods_are_compared_with_each_other_and_with_the_reference(
    visit: Visit, sample: CTVolume, reference: Mask, tmp_path: Path
) -> None:
    viewer = visit().open_sample()
    page, k = viewer.page, largest(reference, 1)[0]
    panel, scores = page.locator(".ich-compare"), page.locator(".ich-scores")

    def rows() -> dict[tuple[str, str], list[str]]:
        """The table by scope and method, once it is of what is on screen."""
        page.wait_for_selector(".ich-scores[data-stale=false] table", timeout=120_000)
        found, scope = {}, ""
        for line in scores.locator("tbody tr").all():
            head, *cells = line.locator("th, td").all_inner_texts()
            if not cells:
                scope = head
            else:
                found[scope, head] = cells
        return found

    viewer.do("edge").settle()  # at half height the two methods agree here in every pixel
    viewer.go_to(k).draw(boxes_on(reference, k)[0])
    assert not panel.is_visible()  # basic use stays as it was
    page.mouse.move(5, 5)
    calm = viewer.pixels(1)
    viewer.press("c")
    assert panel.is_visible() and page.locator("[aria-expanded=true]").inner_text() == "Compare"
    left, right = (
        page.locator(".ich-pane select").nth(n).locator("option:checked").inner_text()
        for n in (0, 1)
    )
    table = rows()
    assert {scope for scope, _ in table} == {f"This slice ({k + 1})", "Marked slices (1)"}
    ml, with_first = table["Marked slices (1)", right]
    assert float(ml) == viewer.ml(1)[1] and 0.3 < float(with_first) < 1

    # Where they agree: the map replaces the right mask, and says with words and patterns which is which.
    page.click("[data-do=show_agreement]")
    assert page.locator(".ich-legend li").all_inner_texts() == [
        "full: both",
        f"striped: only {left}",
        f"dotted: only {right}",
    ]
    page.mouse.move(5, 5)
    page.wait_for_timeout(300)  # the legend takes its room from the panes
    inside = Box(*map(round, boxes_on(reference, k)[0])).slices()
    assert viewer.pixels(1)[inside].mean() > calm[inside].mean() + 3  # where both are it is lit

    # Against the reference mask of the sample, and against the same one from a file.
    page.click("[data-do=reference_sample]")
    viewer.settle()
    with_sample = rows()
    assert len({scope for scope, _ in with_sample}) == 3
    mask = nib.load(viewer.download("mask", tmp_path)).get_fdata()  # of the left pane
    mine, theirs = mask != 0, np.asanyarray(nib.load(sample_paths()[1]).dataobj) != 0
    dice = 2 * (mine & theirs).sum() / (mine.sum() + theirs.sum())
    cells = with_sample[f"Whole scan ({len(reference)} slices)", left]
    assert float(cells[3]) == pytest.approx(dice, abs=0.001)
    assert float(cells[2]) == pytest.approx(
        float((reference.sum(axis=(1, 2)) * sample.voxel_volumes_ml).sum()), abs=0.06
    )
    page.select_option(".ich-against", "reference")
    assert "only the reference mask: missed" in page.inner_text(".ich-legend")
    page.click("[data-do=reference_remove]")
    viewer.settle()
    page.set_input_files(".ich-reference-file", str(sample_paths()[1]))
    page.wait_for_selector("[data-do=reference_remove]:visible", timeout=120_000)
    assert rows() == with_sample
    page.set_input_files(".ich-reference-file", __file__)
    assert "test_page.py" in viewer.alert()

    viewer.do("compare").do("dismiss")
    page.mouse.move(5, 5)
    page.wait_for_timeout(300)
    assert not panel.is_visible() and np.array_equal(calm, viewer.pixels(1))


@pytest.mark.slow
def test_all_methods_are_shown_side_by_side_and_two_again(visit: Visit, reference: Mask) -> None:
    viewer = visit().open_sample()
    page, k = viewer.page, largest(reference, 1)[0]
    viewer.go_to(k).draw(boxes_on(reference, k)[0]).press("c")
    page.click("[data-do=show_every]")
    viewer.settle()
    here = page.locator(".ich-pane").first.locator("option:not(:disabled)").count()
    assert page.locator(".ich-pane").count() == here >= 2
    page.wait_for_selector(".ich-scores[data-stale=false] table", timeout=120_000)
    rows = page.locator(".ich-scores tbody tr:has(td)")
    assert rows.count() == 2 * here  # of this slice and of all that are marked
    page.click("[data-do=show_two]")
    viewer.settle()
    assert page.locator(".ich-pane").count() == 2
    for button in page.locator(".ich-absent button").all():
        # The hub is asked when it is pressed.
        assert (button.text_content() or "").startswith("Fetch ")


# People


@pytest.mark.slow
def test_two_people_at_once_see_their_own(visit: Visit, reference: Mask, tmp_path: Path) -> None:
    first, second = largest(reference, 2)
    left, right = visit().open_sample(), visit().open_sample()
    left.go_to(first).draw(boxes_on(reference, first)[0], wait=False)
    right.go_to(second).draw(boxes_on(reference, second)[0], wait=False)
    left.settle(), right.settle()
    assert left.token != right.token
    masks = {}
    for name, viewer in (("left", left), ("right", right)):
        (tmp_path / name).mkdir()
        path = viewer.download("mask", tmp_path / name)
        masks[name] = np.asanyarray(nib.load(path).dataobj).any(axis=(0, 1))
    assert np.flatnonzero(masks["left"]).tolist() == [first]
    assert np.flatnonzero(masks["right"]).tolist() == [second]
    left.do("clear").settle()
    assert left.ml(0)[1] == 0 and right.ml(0)[1] > 0


def test_what_a_person_sent_is_deleted_when_the_page_is_closed(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    copy = tmp_path / "someone.nii.gz"
    copy.write_bytes(sample_paths()[0].read_bytes())
    context = browser.new_context()
    viewer = Viewer(context.new_page(), server.url).open_files(copy).opened()
    assert viewer.page.inner_text(".ich-scan") == "someone"

    def left() -> list[str]:
        return [path.name for path in server.files() if "someone" in path.name]

    assert len(left()) == 1
    viewer.page.close(run_before_unload=True)  # as a person closes a tab
    limit = time.monotonic() + 30
    while left() and time.monotonic() < limit:
        time.sleep(0.1)
    context.close()
    assert left() == []


def test_nothing_is_offered_to_who_has_no_page(server: Server) -> None:
    def status(path: str, body: dict[str, object] | None = None) -> tuple[int, str]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        try:
            with urlopen(Request(server.url + path, data, headers)) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    code, text = status("/gradio_api/info")
    assert code == 200 and set(json.loads(text)["named_endpoints"]) == {"/segment", "/measure"}
    message = {"case": None, "slice": 0, "ops": [{"id": 1, "op": "fetched"}]}
    assert status("/gradio_api/run/predict", {"data": [message], "fn_index": 0})[0] >= 400
    folders = list(server.folder.glob("gradio/ichseg-*"))
    assert folders
    for folder in folders:
        for path in (folder, folder / "public", *folder.glob("tmp*")):
            assert status(f"/gradio_api/file={path}")[0] == 403


def test_everything_with_the_keyboard_alone(visit: Visit, tmp_path: Path) -> None:
    viewer = visit()
    page = viewer.page

    def focus(what: str) -> None:
        for _ in range(60):
            if page.evaluate("what => document.activeElement.matches(what)", what):
                return
            page.keyboard.press("Tab")
        pytest.fail(f"{what} cannot be reached with Tab")

    focus("[data-do=sample]")
    viewer.press("Enter").opened()
    middle = viewer.slice
    viewer.press("ArrowDown", "ArrowDown", "ArrowUp")
    assert viewer.slice == middle + 1
    viewer.press("Home")
    assert viewer.slice == 0
    viewer.press("End")
    assert viewer.slice == viewer.shape_zyx[0] - 1
    viewer.press(*["PageUp"] * 3, "ArrowDown")
    assert viewer.slice == middle

    viewer.press("b", "ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowRight", "Shift+ArrowUp")
    assert "Enter sets it" in page.inner_text(".ich-hidden")
    viewer.press("Enter").settle()
    assert viewer.sent[-1] == [[207, 204, 310, 305]]
    assert "mL here" in page.inner_text(".ich-hidden")
    viewer.press("n", "ArrowLeft", "Escape")
    assert len(viewer.sent) == 1
    viewer.press("n", "ArrowLeft", "Enter").settle()
    assert viewer.sent[-1] == [[206, 204, 309, 305]]
    viewer.press("Control+z").settle().press("Control+Shift+z").settle()
    assert viewer.ml(0)[0] > 0

    viewer.press("1", "m", "f", "+", "0")
    assert page.input_value(".ich-width") == "70"
    viewer.press("?")
    assert page.locator(".ich-help").is_visible()
    viewer.press("Escape")
    assert not page.locator(".ich-help").is_visible()
    focus(".ich-pane[data-pane='1'] select")
    focus("[data-save=table]")
    with page.expect_download() as started:
        viewer.press("Enter")
    assert started.value.suggested_filename.endswith(".csv")
    viewer.settle()
    focus("canvas")
    viewer.press("n", "Delete").settle()
    assert viewer.ml(0) == (0, 0)


def test_a_finger_draws_on_a_phone(visit: Visit) -> None:
    viewer = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = viewer.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    viewer.open_sample()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    (_, top_0, width, _), (_, top_1, _, _) = viewer.frame(0), viewer.frame(1)
    assert top_1 > top_0 + 300 and width > 340  # one below the other
    assert page.locator(".ich-notice").is_visible() and page.locator(".ich-slider").is_visible()
    touch = page.context.new_cdp_session(page)

    def send(kind: str, *point: float) -> None:
        points = [{"x": point[0], "y": point[1]}] if point else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    send("touchStart", *viewer.point(0, 200, 180))
    send("touchMove", *viewer.point(0, 240, 220))
    send("touchMove", *viewer.point(0, 320, 300))
    send("touchEnd")
    viewer.settle()
    (box,) = viewer.sent[-1]
    assert np.allclose(box, (200, 180, 320, 300), atol=1)
    assert viewer.ml(1)[0] > 0


# Files


def test_a_bad_file_after_a_good_one_loses_nothing(
    visit: Visit, reference: Mask, tmp_path: Path
) -> None:
    viewer = visit().open_sample()
    k = largest(reference, 1)[0]
    viewer.go_to(k).draw(boxes_on(reference, k)[0])
    before, token = viewer.ml(0), viewer.token
    bad = tmp_path / "notes.nii.gz"
    bad.write_text("this is no scan")
    viewer.open_files(bad).page.click(".ich-ask button[value=yes]")
    assert viewer.alert().startswith("notes.nii.gz: ")
    viewer.settle()
    assert viewer.token == token and viewer.ml(0) == before and viewer.slice == k
    viewer.draw((100, 100, 140, 140))
    assert viewer.ml(0)[0] >= before[0] and len(viewer.sent[-1]) == 2


def test_another_scan_asks_first_and_then_is_shown(
    visit: Visit, reference: Mask, sample: CTVolume, tmp_path: Path
) -> None:
    """Every second pixel across: twice as wide as high, and shown in its true shape."""
    image = nib.load(sample_paths()[0])
    oblong = nib.Nifti1Image(
        np.asanyarray(image.dataobj)[::2], image.affine @ np.diag([2.0, 1, 1, 1])
    )
    nib.save(oblong, tmp_path / "oblong.nii.gz")
    viewer = visit().open_sample()
    k = largest(reference, 1)[0]
    viewer.go_to(k).draw(boxes_on(reference, k)[0])
    token = viewer.token
    viewer.open_files(tmp_path / "oblong.nii.gz").page.click(".ich-ask button >> nth=0")
    assert viewer.token == token and viewer.ml(0)[1] > 0
    viewer.open_files(tmp_path / "oblong.nii.gz").page.click(".ich-ask button[value=yes]")
    viewer.opened(token)
    assert viewer.page.inner_text(".ich-scan") == "oblong"
    assert viewer.shape_zyx[2] * 2 == viewer.shape_zyx[1] and viewer.ml(0) == (0, 0)
    sx, sy = viewer.scale()
    assert sx == pytest.approx(2 * sy, rel=0.01)
    viewer.page.mouse.move(5, 5)
    middle = viewer.pixels(0)[:, :, 0][100:400, 60:200]
    assert 60 < middle.mean() < 200 and middle.std() > 10  # a brain, not a black pane
    viewer.draw((80, 100, 120, 300))
    assert viewer.sent[-1] == [[80, 100, 120, 300]]


def test_a_missing_offset_is_corrected_at_the_press_of_a_button(
    visit: Visit, tmp_path: Path
) -> None:
    image = nib.load(sample_paths()[0])
    shifted = np.asanyarray(image.dataobj)[::4, ::4].astype(np.int16) + 1024
    nib.save(nib.Nifti1Image(shifted, image.affine @ np.diag([4.0, 4, 1, 1])), tmp_path / "raw.nii")
    viewer = visit().open_files(tmp_path / "raw.nii")
    assert "use the button" in viewer.alert()
    viewer.page.click(".ich-fix")
    viewer.opened()
    assert "-1024 HU were added" in viewer.page.inner_text(".ich-notes")
    assert not viewer.page.locator(".ich-alert").is_visible()


def test_what_makes_the_millilitres_doubtful_stays_in_sight(visit: Visit, tmp_path: Path) -> None:
    """A writer's default in place of the voxel's size: every millilitre is of voxels of 1 mm."""
    hu = np.asanyarray(nib.load(sample_paths()[0]).dataobj)[::4, ::4]
    nib.save(nib.Nifti1Image(hu, np.eye(4)), tmp_path / "identity.nii.gz")
    viewer = visit().open_files(tmp_path / "identity.nii.gz").opened()
    strip = viewer.page.get_by_role("alert").filter(has_text="Millilitres in doubt")
    assert "1 x 1 x 1 mm" in strip.inner_text()
    viewer.draw((60, 40, 90, 80)).do("measure")
    viewer.page.wait_for_selector(".ich-headline .ich-doubts")
    assert strip.is_visible()
    mark = "e => getComputedStyle(e, '::after').content"
    for number in (".ich-head .ich-ml >> nth=1", ".ich-headline .ich-ml"):
        assert "in doubt" in viewer.page.eval_on_selector(number, mark)
    token = viewer.token
    viewer.do("sample").page.click(".ich-ask button[value=yes]")
    viewer.opened(token)
    assert not strip.is_visible()


def test_dicom_files_with_several_series_offer_the_others(visit: Visit, tmp_path: Path) -> None:
    head = phantoms.speckled_head()
    for number, every in ((2, 2), (3, 1)):
        images = phantoms.dicom_slices(
            head[::every],
            np.arange(0.0, 45.0, 5.0 * every).tolist(),
            SeriesNumber=number,
            SeriesDescription=f"EVERY {every}",
        )
        phantoms.save_dicom(tmp_path / "study", images)
    viewer = visit().open_files(*sorted((tmp_path / "study").iterdir())).opened()
    assert viewer.shape_zyx == head.shape
    token = viewer.token
    viewer.do("series").page.get_by_role("button", name="Open 2: EVERY 2").click()
    assert viewer.opened(token).shape_zyx == head[::2].shape
    assert "DOE" not in viewer.page.content()


@pytest.mark.slow
def test_more_files_than_one_request_takes_are_opened_at_once(visit: Visit, tmp_path: Path) -> None:
    """Thin series and reformats come as a thousand files and more; over a local network, without HTTPS."""
    thin = phantoms.speckled_head((1001, 20, 24))
    images = phantoms.dicom_slices(thin, (0.125 * np.arange(len(thin))).tolist())
    phantoms.save_dicom(tmp_path / "thin", images)
    viewer = visit()
    viewer.page.evaluate("delete Crypto.prototype.randomUUID")  # as where the page is not secure
    viewer.open_files(*sorted((tmp_path / "thin").iterdir())).opened()
    assert viewer.shape_zyx == thin.shape


@pytest.mark.slow
def test_more_files_than_an_upload_takes_are_refused_before_they_are_sent(visit: Visit) -> None:
    viewer = visit()
    viewer.page.evaluate(
        """() => {
          const dataTransfer = new DataTransfer();
          for (let i = 0; i < 5001; i++) dataTransfer.items.add(new File(['x'], i + '.dcm'));
          document.body.dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));
        }"""
    )
    assert viewer.alert() == (
        "An upload is at most 1024 MB in 5000 files; got 1 MB in 5001; give one series."
    )


def test_files_are_dropped_anywhere_on_the_page(visit: Visit) -> None:
    viewer = visit()
    viewer.page.evaluate(
        """() => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File(['no scan'], 'dropped.txt'));
          for (const type of ['dragenter', 'dragover', 'drop']) {
            document.body.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
          }
        }"""
    )
    assert viewer.alert().startswith("dropped.txt: ")


# The picture


def test_the_picture_is_the_scan_in_the_window(viewer: Viewer, sample: CTVolume) -> None:
    k, (y, x) = viewer.slice, (200, 310)
    page = viewer.page
    page.mouse.move(*viewer.point(0, x + 0.5, y + 0.5))
    assert page.inner_text(".ich-corner[data-corner=hu] >> nth=0") == (
        f"{sample.hu_zyx[k, y, x]} HU  ({x}, {y})"
    )
    page.mouse.move(5, 5)
    for key, (width, level) in {"2": (80, 40), "4": (2000, 500), "1": (70, 65)}.items():
        viewer.press(key)
        grey = np.clip((sample.hu_zyx[k] - level + width / 2) / width, 0, 1) * 255
        shown = viewer.pixels(0)[..., 0].astype(float)
        assert np.corrcoef(shown.ravel(), grey.ravel())[0, 1] > 0.97
        assert abs(float(shown.mean() - grey.mean())) < 3
    page.fill(".ich-width", "300")
    page.press(".ich-width", "Enter")
    assert page.inner_text(".ich-corner[data-corner=window] >> nth=0") == "W 300  L 65"
    letters = page.locator(".ich-stage").first.locator(".ich-letter")
    place = {name: letters.filter(has_text=name).bounding_box() for name in "APRL"}
    assert place["R"]["x"] < place["A"]["x"] < place["L"]["x"]  # type: ignore[index]
    assert place["A"]["y"] < place["R"]["y"] < place["P"]["y"]  # type: ignore[index]


def test_wheel_slider_strip_and_buttons_change_the_slice(viewer: Viewer, reference: Mask) -> None:
    page, start = viewer.page, viewer.slice
    page.mouse.move(*viewer.point(0, 256, 256))
    page.mouse.wheel(0, 120)
    page.wait_for_selector(f".ich[data-slice='{start + 1}']")
    before = viewer.pixels(0)
    page.mouse.wheel(0, -120)
    page.wait_for_selector(f".ich[data-slice='{start}']")
    assert not np.array_equal(before, viewer.pixels(0))
    page.locator(".ich-slider").fill("7")
    assert viewer.slice == 6 and page.inner_text(".ich-count") == f"7 / {len(reference)}"
    viewer.do("next")
    assert viewer.slice == 7
    box = page.locator(".ich-strip").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] - 9, box["y"] + 8)
    assert viewer.slice == len(reference) - 1


def test_masks_hide_and_the_other_method_can_be_chosen(visit: Visit, reference: Mask) -> None:
    viewer = visit().open_sample()
    k = largest(reference, 1)[0]
    viewer.go_to(k).draw(boxes_on(reference, k)[0])
    viewer.page.mouse.move(5, 5)
    with_mask = viewer.pixels(0)
    viewer.press("m")
    without = viewer.pixels(0)
    assert not np.array_equal(with_mask, without)
    viewer.press("m")
    assert np.array_equal(with_mask, viewer.pixels(0))
    right = viewer.ml(1)
    viewer.page.select_option(".ich-pane[data-pane='0'] select", default_baseline())
    viewer.settle()
    assert viewer.ml(0) == viewer.ml(1) == right


def test_zoom_keeps_boxes_exact(viewer: Viewer) -> None:
    page = viewer.page
    x, y = viewer.point(0, 256, 256)
    page.mouse.move(x, y)
    for _ in range(3):
        viewer.press("+")
    zoom = 1.25**3
    sx, sy = viewer.scale()
    page.mouse.move(x - 30 * sx * zoom, y - 20 * sy * zoom)
    page.mouse.down()
    page.mouse.move(x, y)
    page.mouse.move(x + 10 * sx * zoom, y + 40 * sy * zoom)
    page.mouse.up()
    viewer.settle()
    assert viewer.sent[-1] == [[226, 236, 266, 296]]
    viewer.press("0")
    assert page.inner_text(".ich-zoom") == "100%"


# Looks


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_light(visit: Visit, scheme: str) -> None:
    viewer = visit(color_scheme=scheme)
    ground, text, film = viewer.page.evaluate(
        """() => { const style = (what, name) => getComputedStyle(document.querySelector(what))[name];
        return [style('.ich', 'backgroundColor'), style('.ich h1', 'color'),
        style('.ich-stage', 'backgroundColor')]; }"""
    )
    luminance = [sum(map(int, c[4:-1].split(","))) / 765 for c in (ground, text, film)]
    assert (luminance[0] > 0.9) == (scheme == "light") and abs(luminance[0] - luminance[1]) > 0.6
    assert luminance[2] < 0.05
    assert viewer.page.inner_text(".ich-notice") == NOTICE
    assert viewer.page.locator("footer").filter(has_text="Gradio").count() == 0


@pytest.mark.slow
def test_the_page_works_rendered_on_the_server_as_in_a_space(
    visit: Visit, root: Path, tmp_path: Path
) -> None:
    with serving(root, tmp_path, GRADIO_SSR_MODE="True") as server:
        if "SSR" not in (tmp_path / "log").read_text():
            pytest.skip(
                "server-side rendering needs a Node that Gradio accepts; there is none here"
            )
        viewer = visit(server.url).open_sample().draw((200, 200, 260, 260))
        assert viewer.ml(0)[0] > 0 and viewer.ml(1)[1] > 0


def test_an_answer_that_fails_on_the_way_is_asked_for_again(
    browser: Browser, server: Server
) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.clock.install()
    viewer = Viewer(page, server.url).open_sample()
    page.route("**/gradio_api/run/**", lambda route: route.fulfill(status=500, json={"error": ""}))
    with page.expect_response("**/gradio_api/run/**"):
        viewer.draw((200, 200, 260, 260), wait=False)
    page.wait_for_timeout(500)  # for the page to take note
    page.unroute("**/gradio_api/run/**")
    page.clock.fast_forward(20_000)
    viewer.settle()
    assert viewer.ml(0)[0] > 0
    viewer.press("Control+z").settle()
    assert viewer.ml(0) == (0, 0)  # it was done once
    context.close()
