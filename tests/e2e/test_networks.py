"""What hangs on the networks themselves: their answers, how long these take, and what a record makes again.

All in one file, so that one process of the tests serves them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from playwright.sync_api import Browser, Download

from ichseg.files.names import lesions_path, mask_name
from ichseg.files.nifti_mask import read_mask
from ichseg.marks.box import Box, boxes_from_mask
from ichseg.sample import sample_paths
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume
from tests.e2e.conftest import REAL, Server, serving
from tests.e2e.driver import PATIENCE_MS, Viewer
from tests.e2e.sample_boxes import (
    LESION_RGB,
    Mask,
    Visit,
    away_from_lines,
    boxes_on,
    largest,
    largest_slice,
    ml,
)


@pytest.mark.slow
def test_two_slices_give_millilitres_near_the_reference_and_the_mask_that_was_shown(
    visit_real: Visit, sample: CTVolume, reference: Mask, tmp_path: Path
) -> None:
    viewer = visit_real(
        viewport={"width": 2700, "height": 1640}
    ).open_sample()  # 2.6 screen pixels a voxel
    slices = largest(reference, 2)
    shown = {}
    viewer.do("fill")
    viewer.page.locator(".ich-opacity").fill("100")
    for k in slices:
        viewer.go_to(k)
        for box in boxes_on(reference, k):
            viewer.draw(box)
        assert viewer.ml(0)[0] > 0 and viewer.ml(1)[0] > 0
        viewer.page.mouse.move(5, 5)
        shown[k] = [
            np.all(abs(viewer.pixels(pane).astype(int) - LESION_RGB) <= 3, axis=2)
            for pane in (0, 1)
        ]

    for pane in (0, 1):
        said = viewer.page.locator(f"[data-pane='{pane}'] select").get_attribute("title") or ""
        assert re.fullmatch(r"Runs on (OpenVINO|torch), (CPU|GPU), \w+", said)
    true_ml = float((reference.sum(axis=(1, 2)) * sample.voxel_volumes_ml)[slices].sum())
    errors = [abs(viewer.ml(pane)[1] - true_ml) / true_ml for pane in (0, 1)]
    assert min(errors) < 0.15

    path = viewer.download("mask", tmp_path)
    mask = read_mask(path, sample) != 0
    assert sorted(np.flatnonzero(mask.any(axis=(1, 2))).tolist()) == slices
    for k in slices:
        boxes = [Box(*map(round, box)) for box in boxes_on(reference, k)]
        free = away_from_lines(mask.shape[1:], boxes)
        assert np.array_equal(shown[k][0] & free, mask[k] & free)
        assert not np.array_equal(shown[k][0], shown[k][1])  # the panes are of two methods
    assert float((mask.sum(axis=(1, 2)) * sample.voxel_volumes_ml).sum()) == pytest.approx(
        viewer.ml(0)[1], abs=0.06
    )

    scan, written = nib.load(sample_paths()[0]), nib.load(path)
    assert written.shape == scan.shape and np.allclose(written.affine, scan.affine)
    itk_scan, itk_mask = sitk.ReadImage(str(sample_paths()[0])), sitk.ReadImage(str(path))
    assert itk_mask.GetSize() == itk_scan.GetSize()
    for read in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert np.allclose(getattr(itk_mask, read)(), getattr(itk_scan, read)(), atol=1e-4)


@pytest.mark.slow
def test_a_box_is_looked_at_again_and_the_record_makes_what_is_shown(
    visit: Visit, closer_server: Server, root: Path, reference: Mask, tmp_path: Path
) -> None:
    first, second = largest(reference, 2)
    viewer = visit(closer_server.url).open_sample()
    page, state = viewer.page, ".ich-corner[data-corner=state]"
    viewer.do("edge").settle()  # at half height both answers end at the same place
    viewer.go_to(first).draw(boxes_on(reference, first)[0], wait=False).answered()
    at_once = viewer.ml(0)
    assert at_once[0] > 0 and page.get_attribute(".ich", "data-rough") == "1"
    assert page.locator(state).all_inner_texts() == ["Refining…", ""]
    viewer.settle()
    closer = viewer.ml(0)
    assert closer != at_once and page.locator(state).all_inner_texts() == ["", ""]
    said = page.inner_text(".ich-hidden").partition(" mL here")[0].split()[-1]
    assert float(said) == closer[0]
    viewer.press("Control+z").answered()
    assert viewer.ml(0) == (0, 0)
    viewer.press("Control+Shift+z").answered()
    assert viewer.ml(0) == closer and page.get_attribute(".ich", "data-rough") == "0"

    # What has not been looked at again is before it leaves the page.
    viewer.go_to(second).draw(boxes_on(reference, second)[0], wait=False).answered()
    record = viewer.download("record", tmp_path)
    viewer.settle()
    mask_path = tmp_path / "again.nii.gz"
    command = ["segment", str(sample_paths()[0]), "--session", str(record), "--json"]
    run = subprocess.run(
        [sys.executable, "-m", "ichseg", *command, "--out", str(mask_path)],
        cwd=root, capture_output=True, text=True, check=True, env=os.environ | closer_server.settings,
    )  # fmt: skip
    again = json.loads(run.stdout)
    assert again["same_mask"] is True and again["second_look"] is True
    assert viewer.ml(0)[1] == pytest.approx(again["volume_ml"], abs=0.06)
    downloaded = nib.load(viewer.download("mask", tmp_path)).get_fdata()
    assert np.array_equal(downloaded, nib.load(mask_path).get_fdata())


@pytest.mark.slow
def test_the_second_look_keeps_nobody_from_scrolling_and_drawing(
    visit: Visit, closer_server: Server, reference: Mask
) -> None:
    viewer = visit(closer_server.url).open_sample()
    slices = largest(reference, 3)
    for k in slices:
        viewer.go_to(k).draw(boxes_on(reference, k)[0], wait=False)
    viewer.answered()
    rough = int(viewer.page.get_attribute(".ich", "data-rough") or 0)
    assert rough >= 1
    viewer.press("ArrowUp", "ArrowUp", "ArrowDown")  # the slice changes while it looks
    viewer.go_to(slices[0]).settle()
    parts = [viewer.go_to(k).ml(0)[0] for k in slices]
    assert viewer.ml(0)[1] == pytest.approx(sum(parts), abs=0.06)


@pytest.mark.slow
def test_a_server_that_is_stopped_at_its_work_deletes_what_people_sent(
    browser: Browser, root: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "someone.nii.gz"
    copy.write_bytes(sample_paths()[0].read_bytes())
    folder = tmp_path / "server"
    folder.mkdir()
    context = browser.new_context()
    with serving(root, folder, app=REAL) as server:
        viewer = Viewer(context.new_page(), server.url).open_files(copy).opened()
        viewer.page.wait_for_timeout(2500)  # from here on slices are embedded, for half a minute
        assert any("someone" in path.name for path in server.files())
    context.close()
    assert list(folder.rglob("*someone*")) == list(folder.glob("ichseg-*")) == []


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_one_box_gives_the_whole_hematoma_which_is_corrected_undone_and_redone(
    visit_real: Visit, largest_lesion: Mask, tmp_path: Path, every: int
) -> None:
    """On every third slice of the sample, or on all: each takes a second for each of two networks."""
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.load(sample_paths()[0]).slicer[:, :, ::every], path)
    scan, largest_lesion = read_volume(path), largest_lesion[::every]
    viewer = visit_real().open_files(path).opened()
    assert viewer.page.locator("[data-do=propagate]").is_disabled()
    k, box = largest_slice(largest_lesion)
    viewer.go_to(k).draw(box.xyxy)
    one_slice_ml = viewer.ml(0)[1]
    viewer.press("w").settle()
    whole_ml = viewer.ml(0)[1]
    assert whole_ml == pytest.approx(ml(largest_lesion, scan), rel=0.1)
    assert viewer.ml(1)[1] > viewer.ml(1)[0]  # the other method followed it, too
    reasons = viewer.page.inner_text(".ich-stops")
    assert "Stopped above slice" in reasons and "Stopped below slice" in reasons

    viewer.do("correct").tool("erase")
    centre_x, centre_y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    viewer.drag((centre_x - 10, centre_y, centre_x + 10, centre_y + 5))
    corrected_ml = viewer.ml(0)[1]
    assert corrected_ml < whole_ml - 0.05 and viewer.ml(1)[1] > 0
    viewer.press("Control+z").answered()
    assert viewer.ml(0)[1] == whole_ml
    viewer.press("Control+Shift+z").answered()
    assert viewer.ml(0)[1] == corrected_ml

    mask = read_mask(viewer.download("mask", tmp_path), scan) != 0
    assert ml(mask, scan) == pytest.approx(corrected_ml, abs=0.06)
    assert not mask[k, round(centre_y + 2), round(centre_x)]  # where the eraser went

    viewer.tool("box").press("Control+z", "Control+z").answered()
    assert viewer.ml(0)[1] == one_slice_ml


@pytest.mark.slow
def test_following_is_cancelled_and_nothing_changes(
    visit_real: Visit, largest_lesion: Mask
) -> None:
    viewer = visit_real().open_sample()
    k, box = largest_slice(largest_lesion)
    viewer.go_to(k).draw(box.xyxy)
    before = viewer.ml(0), viewer.ml(1)
    viewer.press("w")
    viewer.page.locator("[data-do=cancel]").click()
    viewer.settle()
    assert (viewer.ml(0), viewer.ml(1)) == before
    assert viewer.page.locator(".ich-stops").is_hidden()


@pytest.mark.slow
def test_lesions_are_measured_apart_and_their_record_makes_the_same_labels_again(
    visit_real: Visit, sample: CTVolume, reference: Mask, root: Path, tmp_path: Path
) -> None:
    viewer = visit_real().open_sample()
    page, k = viewer.page, int(np.argmax(reference.sum(axis=(1, 2))))
    clot, ventricle = sorted(
        boxes_from_mask(reference[k]), key=lambda box: -reference[k][box.slices()].sum()
    )[:2]
    viewer.go_to(k).draw(clot.grow(4, reference.shape[1:]).xyxy)
    viewer.do("lesions").do("lesion_add").answered()
    page.locator(".ich-lesion-list [data-part=type]").last.select_option("IVH")
    viewer.answered().go_to(k).draw(ventricle.grow(3, reference.shape[1:]).xyxy).press("d")
    viewer.settle()  # the numbers come before their range, which this does not wait for
    page.wait_for_selector(".ich-measure[data-stale=false] thead", timeout=PATIENCE_MS)
    heads = page.locator(".ich-measures thead th").all_inner_texts()
    assert heads == ["Lesion 1", "Lesion 2\nIVH", "All blood"]
    cells = page.locator(".ich-measures tbody tr").first.locator("td").all_inner_texts()
    one, two, both = map(float, cells)
    assert one > two > 0 and both == pytest.approx(one + two, abs=0.06) == viewer.ml(0)[1]
    assert "difference below 7.7 mL" in page.inner_text(
        ".ich-headline"
    )  # for there is blood in a ventricle
    assert page.inner_text(".ich-missing").startswith("ABC/2 of All blood: ")

    files: list[Download] = []
    page.on("download", lambda file: files.append(file))
    page.click("[data-save=mask]")
    while len(files) < 2:  # two files, in whatever order the browser begins them
        page.wait_for_event("download", timeout=PATIENCE_MS)
    saved = {file.suggested_filename: tmp_path / file.suggested_filename for file in files}
    name = mask_name(sample)
    assert set(saved) == {name, lesions_path(Path(name)).name}
    for file in files:
        file.save_as(saved[file.suggested_filename])
    path = saved[name]
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    voxel_ml = float(sample.voxel_volumes_ml[k])
    counted = [int((labels == label).sum()) * voxel_ml for label in (1, 2)]
    assert counted == pytest.approx([one, two], abs=0.06) and labels.max() == 2

    record = viewer.download("record", tmp_path)
    command = ["segment", str(sample_paths()[0]), "--session", str(record), "--json"]
    run = subprocess.run(
        [sys.executable, "-m", "ichseg", *command, "--out", str(tmp_path / "again.nii.gz")],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    again = json.loads(run.stdout)
    assert again["schema_version"] == 4 and again["same_mask"] is True
    itk = sitk.ReadImage(str(tmp_path / "again.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(itk), labels)
