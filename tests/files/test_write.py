"""The table of writers: a format that is put into it is written by every door without further change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest
from typer.testing import CliRunner

from ichseg import cohort
from ichseg.cli.main import app
from ichseg.errors import InputError, VolumeError
from ichseg.files import write
from ichseg.marks.lesion import Lesion
from ichseg.measures.assessment import assess
from ichseg.page.panels.files import write as downloads
from ichseg.page.viewer import markup
from ichseg.sample import sample_paths


def counts(it: write.Content) -> bytes:
    """The format that the tests add: how many voxels of each label there are."""
    values, voxels = np.unique(it.labels_zyx, return_counts=True)
    return "".join(f"{int(a)} {b}\n" for a, b in zip(values, voxels, strict=True) if a).encode()


COUNTS = write.Writer(
    "counts",
    "Voxel counts",
    ".counts",
    "voxels.counts",
    counts,
    frozenset({"mask"}),
    beside={"-method.txt": lambda it: it.method.encode() if it.method else None},
)
BOX = ("--slice", "14", "--box", "200,180,300,300", "--model", "threshold")


@pytest.fixture(params=["mask", "measures"])
def added(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A row more, offered for masks alone, or for what was measured."""
    offer: Any = request.param
    row = write.Writer(**{**vars(COUNTS), "offered": frozenset({offer})})
    monkeypatch.setattr(write, "WRITERS", (*write.WRITERS, row))
    return str(offer)


def two_lesions() -> tuple[Any, Any]:
    volume = phantoms.scan((0, 5, 10), (30, 40))
    labels = np.zeros(volume.shape_zyx, dtype=np.uint8)
    labels[0:2, 3:9, 4:11] = 1
    labels[1:3, 20:22, 20:33] = 2
    return volume, labels


def test_a_new_format_is_written_by_the_ending_of_out(added: str, tmp_path: Path) -> None:
    out = tmp_path / "x.COUNTS"
    run = CliRunner().invoke(app, ["segment", str(sample_paths()[0]), *BOX, "--out", str(out)])
    assert run.exit_code == 0, run.output
    label, voxels = out.read_text().split()
    assert label == "1" and int(voxels) > 0
    assert (tmp_path / "x-method.txt").read_text() == "threshold"


def test_a_new_format_for_masks_is_one_of_a_cohort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "WRITERS", (*write.WRITERS, COUNTS))
    job = cohort.Segment(
        cohort.Entry(1, "a", sample_paths()[0], boxes="14:200,180,300,300", out="a.counts"),
        tmp_path,
        "threshold",
    )
    assert job.outputs[1:] == [tmp_path / "a.counts", tmp_path / "a-method.txt"]
    (outcome,) = cohort.run([job])
    assert outcome.error is None and (tmp_path / "a.counts").is_file()


def test_a_new_format_for_what_was_measured_is_one_of_the_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = write.Writer(**{**vars(COUNTS), "offered": frozenset({"measures"}), "note": "text"})
    monkeypatch.setattr(write, "WRITERS", (*write.WRITERS, row))
    assert 'data-save="counts">Voxel counts <small>text</small>' in markup()
    volume, labels = two_lesions()
    found = assess(labels, volume, [Lesion(1), Lesion(2)])
    asked = write.by_key("counts")
    assert asked is row
    (path,) = downloads.write_evidence(tmp_path, asked, found)
    assert path.name == f"hematoma-{volume.called}-voxels.counts"
    assert path.read_text() == "1 84\n2 52\n"


def test_every_row_has_a_key_and_an_ending_of_its_own() -> None:
    rows = write.WRITERS
    assert len({row.key for row in rows}) == len({row.ending for row in rows}) == len(rows)
    assert all(row.offered and row.title and row.name.endswith(row.ending) for row in rows)
    assert all(row.ending == row.ending.lower() for row in rows)


def test_a_name_that_no_row_has_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    volume, _ = two_lesions()
    with pytest.raises(InputError, match=r"A mask is written as \.nii\.gz, .* or \.zip"):
        write.check_path(tmp_path / "x.txt", volume)
    with pytest.raises(InputError, match=r"A mask is written as"):
        write.check_path(tmp_path / "x.pdf", volume, offer="mask")
    with pytest.raises(InputError, match=r"Evidence is written as one of \.pdf, .*; got x\.zip;"):
        write.check_path(tmp_path / "x.zip", volume, offer="measures")


def test_what_a_format_needs_is_checked_before_any_work(tmp_path: Path) -> None:
    uneven = phantoms.scan((0, 5, 12), (30, 40))
    for ending in write.endings("mask"):
        if ending == ".zip":
            write.check_path(tmp_path / f"x{ending}", uneven)
            continue
        with pytest.raises(VolumeError, match="evenly spaced slices only"):
            write.check_path(tmp_path / f"x{ending}", uneven)
    with pytest.raises(InputError, match="refers to the DICOM images of its scan"):
        write.check_path(tmp_path / "x.dcm", uneven)
