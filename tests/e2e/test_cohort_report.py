"""The report over many scans as people meet it: a file on disk in Chromium, and a correction that comes of it."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from ichseg import cohort
from ichseg.cli import main as cli
from tests.cohort import study
from tests.e2e.conftest import serving
from tests.e2e.driver import PATIENCE_MS, Viewer


def command(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ichseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_report_opens_from_disk_and_a_correction_changes_one_row(
    browser: Browser, tmp_path: Path
) -> None:
    whole = study.make(tmp_path / "scans")
    manifest, out = whole.with_name("few.csv"), tmp_path / "out"
    header, *lines = whole.read_text().splitlines()
    manifest.write_text("\n".join([header, *(lines[n - 1] for n in (1, 2, 19, 21))]))
    segment = ("segment", manifest, "--model", "threshold", "--no-range", "--out", out, "--json")
    assert command(*segment) == 1
    assert command("report", manifest, out, "--json") == 0
    before = rows(out)

    page = browser.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda one: one.url.startswith(("file:", "data:")) or wrong.append(one.url))
    page.goto((out / cohort.REPORT_NAME).as_uri())
    order = page.locator("tbody tr").evaluate_all("rows => rows.map((row) => row.id)")
    assert order[0] == "scan-3" and sorted(order) == [f"scan-{n}" for n in (1, 2, 3, 4)]
    text = page.locator("body").inner_text()
    assert "scan or mask" in text and ".nii" not in text
    shown = page.locator("img").evaluate_all("all => all.every((one) => one.naturalWidth > 100)")
    assert shown and page.locator("img").count() == 3
    page.get_by_role("button", name="Volume").click()
    order = page.locator("tbody tr").evaluate_all("rows => rows.map((row) => row.id)")
    assert order[0] == "scan-4" and page.locator("th[aria-sort=descending]").count() == 1
    page.get_by_label("Only what to look at").check()
    assert page.locator("tbody tr:visible").count() == 1
    page.get_by_label("Only what to look at").uncheck()
    with page.expect_download() as download:
        page.locator("#scan-2").get_by_role("link", name="Save the record").click()
    assert download.value.suggested_filename == "scan-0002.ichseg.json"
    record = json.loads(Path(download.value.path()).read_text())
    page.close()
    assert wrong == []

    record["propagated"] = []  # as a person does who clears what was propagated
    del record["mask_sha256"], record["labels_sha256"]
    (out / "corrected").mkdir()
    (out / "corrected" / "hematoma-session.json").write_text(json.dumps(record))
    assert command(*segment) == 1
    now = rows(out)
    assert [row["number"] for row in now if row["state"] == "done"] == ["2"]
    changed = [one["number"] for one, was in zip(now, before, strict=True)
               if one["volume_ml"] != was["volume_ml"]]  # fmt: skip
    assert changed == ["2"]


@pytest.mark.slow  # a server, a browser and four runs: some 15 s of processor time
def test_a_scan_is_corrected_on_the_page_that_its_row_links_to(
    browser: Browser, root: Path, tmp_path: Path
) -> None:
    whole = study.make(tmp_path / "scans")
    manifest, out = whole.with_name("few.csv"), tmp_path / "out"
    header, *lines = whole.read_text().splitlines()
    manifest.write_text("\n".join([header, *(lines[n - 1] for n in (1, 11, 21))]))
    segment = ("segment", manifest, "--model", "threshold", "--no-range", "--out", out, "--json")
    assert command(*segment) == 0 == command(*segment)  # at the second time all is kept
    before = (out / "results.csv").read_bytes().splitlines()
    files = {path.name: path.read_bytes() for path in out.glob("scan-*") if "0002" not in path.name}
    folder = tmp_path / "server"
    folder.mkdir()
    with serving(root, folder, options=("--study", str(manifest), str(out))) as server:
        assert command("report", manifest, out, "--page", server.url, "--json") == 0
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto((out / cohort.REPORT_NAME).as_uri())
        with page.expect_popup() as opened:
            page.locator("#scan-2").get_by_role("link", name="Correct on the page").click()
        opened.value.wait_for_selector(".ich-study:visible", timeout=PATIENCE_MS)
        viewer = Viewer(
            opened.value, opened.value.url
        ).opened()  # once more: a reload opens it, too
        assert viewer.page.inner_text(".ich-study p").startswith("Scan 2 of the study")
        was_ml = viewer.ml(0)[1]
        assert viewer.slice == study.SLICE  # the one with most blood
        viewer.press("n", "Delete").settle()
        x0, y0, x1, y1 = map(float, study.BOX.split(","))
        viewer.draw((x0, y0, (x0 + x1) / 2, y1))  # half of what it was
        now_ml = viewer.ml(0)[1]
        assert 0 < now_ml < was_ml
        viewer.do("study_save")
        viewer.page.wait_for_selector(".ich-alert[data-kind=note]:visible", timeout=PATIENCE_MS)
        assert "scan 2 will be made from this correction" in viewer.alert()
        asks = "!window.dispatchEvent(new Event('beforeunload', { cancelable: true }))"
        assert not viewer.answered().page.evaluate(asks)  # who leaves loses nothing: it is saved
        page.close()
    assert command(*segment) == 0
    after = (out / "results.csv").read_bytes().splitlines()
    assert [was == now for was, now in zip(before, after, strict=True)].count(False) == 1
    assert files == {name: (out / name).read_bytes() for name in files}
    (row,) = [row for row in rows(out) if row["number"] == "2"]
    assert row["state"] == "done" and float(row["volume_ml"]) == pytest.approx(now_ml, abs=0.01)
