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
