"""Opening files, their series and corrections, and what is downloaded."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ichseg.errors import VolumeError
from ichseg.files.names import MASK_SLICES
from ichseg.files.nifti_mask import read_mask
from ichseg.files.session import load_session
from ichseg.marks.box import Box
from ichseg.page.controller import Controller
from ichseg.scan.series_info import SeriesError, SeriesInfo
from ichseg.scan.volume import CTVolume, content_sha256
from tests import phantoms
from tests.pages import (
    COLUMNS,
    ROWS,
    SLICES,
    Page,
    area_ml,
    numbered_scan,
)


def test_a_bad_file_loses_nothing(controller: Controller, tmp_path: Path) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])

    def refuse(path: Path, *, series: str | None = None, add_offset: int = 0) -> CTVolume:
        if add_offset:
            return numbered_scan(50)
        raise VolumeError("scan.nii: no HU; if it lacks the offset, open it with add_offset=-1024.")

    controller.shared.read = refuse
    sent = tmp_path / "scan.nii"
    sent.write_bytes(b"x")
    token = page.case
    reply = page.ask("open", files=[{"path": str(sent), "name": "scan.nii"}])
    assert "use the button" in reply["error"]["text"] and "scan" not in reply
    assert reply["case"] == token and reply["totals"]["one"] == area_ml(16)
    assert reply["error"]["fix"]["op"] == {
        "op": "reopen",
        "add_offset": -1024,
        "role": "baseline",
    }
    assert page.ask("reopen", add_offset=-1024)["scan"]["shape"] == [SLICES, ROWS, COLUMNS]
    assert page.case != token


def test_another_series_is_of_the_open_upload_not_of_a_refused_one(
    controller: Controller, tmp_path: Path
) -> None:
    asked: list[tuple[str, str | None]] = []

    def read(path: Path, *, series: str | None = None, add_offset: int = 0) -> CTVolume:
        asked.append((path.name, series))
        if path.name == "bad":
            raise VolumeError("bad: a scan is a scan, but this is not; give another.")
        return numbered_scan()

    controller.shared.read = read
    page = Page(controller, "x")
    for name in ("good", "bad"):
        sent = tmp_path / f"hash of {name}" / name
        sent.parent.mkdir()
        sent.write_bytes(b"x")
        page.ask("open", files=[{"path": str(sent), "name": name}])
    assert "scan" in page.ask("reopen", series="1.2.3")
    assert asked[-1] == ("good", "1.2.3")


def test_the_series_of_refused_files_can_be_chosen_from(
    controller: Controller, tmp_path: Path
) -> None:
    """The page is told of every series, each with its reason, and opens one of the same files."""
    asked: list[tuple[str, str | None]] = []
    head = SeriesInfo("1.2", 2, "HEAD", 10)
    coronal = SeriesInfo("1.3", 3, "COR", 12, refusal="its slices are not axial")

    def read(path: Path, *, series: str | None = None, add_offset: int = 0) -> CTVolume:
        asked.append((path.name, series))
        if path.name == "study.zip" and series != "1.2":
            raise SeriesError("study.zip: a scan is axial, but it is not; choose.", (head, coronal))
        return numbered_scan()

    controller.shared.read = read
    page = Page(controller, "x")
    for name in ("good", "study.zip"):
        sent = tmp_path / f"hash of {name}" / name
        sent.parent.mkdir()
        sent.write_bytes(b"x")
        reply = page.ask("open", files=[{"path": str(sent), "name": name}])
    choose = reply["error"]["choose"]
    assert [(one["key"], one["refusal"]) for one in choose["series"]] == [
        ("1.2", ""),
        ("1.3", "its slices are not axial"),
    ]
    op = dict(choose["op"])
    again = page.ask(op.pop("op"), **op, series="1.3")  # refused, too, and the choice stays
    assert again["error"]["choose"] == choose
    assert "scan" in page.ask("reopen", **op, series="1.2")
    assert asked[-2:] == [("study.zip", "1.3"), ("study.zip", "1.2")]


def test_files_from_elsewhere_are_not_opened(controller: Controller, tmp_path: Path) -> None:
    page = Page(controller, "x")
    outside = tmp_path.parent / "outside.nii"
    outside.write_bytes(b"x")
    (tmp_path / "link.nii").symlink_to(outside)
    for path in (
        outside,
        tmp_path / ".." / "outside.nii",
        tmp_path / "link.nii",
        Path("/etc/hosts"),
    ):
        reply = page.ask("open", files=[{"path": str(path), "name": "scan.nii"}])
        assert "not here" in reply["error"]["text"]
    assert outside.exists()


def test_the_folder_of_all_uploads_stays_when_a_file_is_taken_out_of_it(
    controller: Controller, tmp_path: Path
) -> None:
    """Gradio gives each file a folder of its own, which goes; the one above them is every page's."""
    own = tmp_path / "hash" / "scan.nii"
    own.parent.mkdir()
    for path in (own, tmp_path / "scan.nii"):
        path.write_bytes(b"x")
        page = Page(controller, "x")
        assert "scan" in page.ask("open", files=[{"path": str(path), "name": "scan.nii"}])
        controller.drop("x")
    assert tmp_path.is_dir() and not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["mask", "table", "record", "picture", "csv", "stl", "seg.nrrd"])
def test_files_are_called_what_a_person_types(controller: Controller, kind: str) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, boxes=[[4, 4, 12, 12]])
    view = {"slice": 1, "width": 80, "level": 40}
    named = page.ask("export", kind=kind, label=" ward-3 ", **view)["download"]["name"]
    assert named.startswith("hematoma-ward-3-")
    other = page.ask("export", kind=kind, **view)["download"]["name"]
    assert other.startswith(f"hematoma-{numbered_scan().sha256[:8]}-")
    refused = page.ask("export", kind=kind, label="Doe^John", **view)
    assert "never a patient's name" in refused["error"]["text"] and "download" not in refused


def test_downloads_hold_what_was_marked(controller: Controller, tmp_path: Path) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    assert "nothing is yet" in page.ask("export", kind="mask")["error"]["text"]
    page.ask("boxes", slice=2, boxes=[[3, 4, 10, 9]])
    case = controller.store.get("x").case
    assert case is not None and case.volume is not None
    paths = {
        kind: Path(page.ask("export", kind=kind, slice=2, width=80, level=40)["download"]["path"])
        for kind in ("mask", "table", "picture", "record")
    }
    assert all(path.is_relative_to(controller.store.public) for path in paths.values())
    mask = read_mask(paths["mask"], case.volume)
    assert np.array_equal(mask != 0, case.segmentation.mask_zyx("one"))
    (row,) = csv.DictReader(paths["table"].open())
    numbers = ("lesion", "slice", "slice_index", "area_mm2", "height_mm")
    assert [row[name] for name in numbers] == ["1", "3", "2", "8.7500", "5.0000"]
    assert {path.name.split("-")[1] for path in paths.values()} == {case.volume.sha256[:8]}
    assert paths["picture"].read_bytes().startswith(b"\x89PNG")
    session = load_session(paths["record"])
    assert session.boxes == {2: (Box(3, 4, 10, 9),)} and session.model == "one"
    assert session.mask_sha256 == content_sha256(case.segmentation.mask_zyx("one"))
    session.check_scan(case.volume)


def test_an_uneven_series_downloads_as_slices(controller: Controller) -> None:
    controller.shared.read = lambda path, **_: phantoms.scan((0, 5, 12), (ROWS, COLUMNS))
    page = Page(controller, "x")
    assert page.ask("sample")["scan"]["even"] is False
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    assert page.ask("export", kind="mask")["download"]["name"].endswith(MASK_SLICES)


def test_a_tilted_scan_downloads_resampled_with_its_millilitres_beside_the_originals(
    controller: Controller,
) -> None:
    scan = phantoms.scan(tuple(5.0 * np.arange(SLICES)), (ROWS, COLUMNS), tilt_degrees=15.0)
    controller.shared.read = lambda path, **_: scan
    page = Page(controller, "x")
    assert page.ask("sample")["scan"]["tilted"]
    page.ask("boxes", slice=1, boxes=[[4, 4, 12, 12]])
    reply = page.ask("export", kind="regular")
    (said,) = reply["said"]
    assert "resampled" in said and f"{area_ml(64):.2f} mL on the scan's own grid" in said
    names = [reply["download"]["name"], *(one["name"] for one in reply["download"]["beside"])]
    assert len(names) == 2 and all("regular-grid" in name for name in names)
    assert np.asarray(nib.load(reply["download"]["path"]).dataobj).min() < 0  # the scan, in HU
