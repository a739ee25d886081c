"""Situations that people met with programs of this kind, each held to what is right.

The scripts that rebuild them lie beside the project, in ../shared/data/public-cases. A test copies a case's script to
a temporary folder, runs it there, and looks at what the program makes of the files.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from ichseg import cohort
from ichseg.cli.main import app
from ichseg.errors import InputError, VolumeError
from ichseg.files.mask import read_labelled_mask
from ichseg.files.nifti_mask import read_mask
from ichseg.files.records import scan_record
from ichseg.measures.volume import volume_ml
from ichseg.page.controller import Controller
from ichseg.sample import sample_paths
from ichseg.scan.read import read_volume
from tests.pages import Page

Build = Callable[[str], Path]


@pytest.fixture(scope="session")
def build(
    shared_data: Path, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Rebuild a case by its number, e.g. "06", once a session; the folder that holds its files."""
    built: dict[str, Path] = {}

    def one(number: str) -> Path:
        if number not in built:
            (source,) = (shared_data / "public-cases").glob(f"{number}-*")
            scratch = tmp_path_factory.mktemp("public-cases")
            shutil.copy(source.parent / "common.py", scratch / "common.py")
            folder = scratch / source.name
            shutil.copytree(source, folder)
            for path in (folder, *folder.iterdir()):  # copied from a folder that is read-only
                path.chmod(path.stat().st_mode | 0o200)
            environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{scratch}"}
            subprocess.run(
                [sys.executable, "make.py"], cwd=folder, env=environment, check=True, timeout=300
            )
            built[number] = folder
        return built[number]

    return one


def test_every_case_is_rebuilt_from_a_script_or_described(shared_data: Path) -> None:
    for folder in (shared_data / "public-cases").glob("[0-9]*"):
        assert (folder / "expected.txt").is_file(), folder.name


def test_24_a_manifest_as_excel_in_europe_saves_it(build: Build, tmp_path: Path) -> None:
    folder = build("24")
    volumes = []
    for name in ("comma-bom.csv", "semicolon-bom.csv", "comma-cp1252.csv"):
        (entry,) = cohort.read_manifest(folder / name)
        found = cohort.Segment(entry, tmp_path / name, "threshold")
        found.folder.mkdir()
        record = found().record
        assert record is not None
        volumes.append(record["volume_ml"])
    assert len(set(volumes)) == 1 and volumes[0] > 0
    with pytest.raises(InputError, match='save it as "CSV UTF-8"'):
        cohort.read_manifest(folder / "tab.csv")


def measured(*arguments: str | Path) -> dict[str, Any]:
    """What ``measure --json`` prints."""
    run = CliRunner().invoke(app, ["measure", *map(str, arguments), "--json"])
    assert run.exit_code == 0, run.exception
    document: dict[str, Any] = json.loads(run.stdout)
    return document


def test_09_a_mask_saved_with_a_scale(build: Build) -> None:
    volume = read_volume(sample_paths()[0])
    for path in sorted(build("09").glob("*.nii.gz")):
        total_ml = volume_ml(read_labelled_mask(path, volume).blood_zyx, volume)
        assert total_ml == pytest.approx(30.15, abs=0.005), path.name
    assert measured(sample_paths()[0], path)["baseline"]["volume_ml"] == pytest.approx(total_ml)


def test_10_an_identity_affine_is_a_warning(build: Build) -> None:
    folder = build("10")
    volume = read_volume(folder / "ct.nii.gz")
    assert any("exactly 1 x 1 x 1 mm" in warning for warning in volume.warnings)
    assert any("256 x 256 x 30 mm" in warning for warning in volume.warnings)


def test_11_a_unit_sform_beside_a_true_qform_is_read_right(build: Build) -> None:
    folder = build("11")
    volume = read_volume(folder / "ct.nii.gz")
    mask = read_mask(folder / "mask.nii.gz", volume)
    assert volume_ml(mask != 0, volume) == pytest.approx(30.09, abs=0.01)
    assert volume.warnings == ()
    assert any("the qform was used" in note for note in volume.notes)


@pytest.mark.slow
def test_39_masks_of_an_uneven_series_are_read_again(shared_data: Path, tmp_path: Path) -> None:
    scan, box = shared_data / "ge-head-ct", ("--slice", "14", "--box", "200,200,260,260")
    files = [tmp_path / name for name in ("g.dcm", "g.zip")]
    out = [part for file in files for part in ("--out", str(file))]
    run = CliRunner().invoke(app, ["segment", str(scan), *box, *out, "--json"])
    assert run.exit_code == 0, run.exception
    total_ml = json.loads(run.stdout)["volume_ml"]
    assert total_ml > 0.1
    for file in files:
        assert measured(scan, file)["baseline"]["volume_ml"] == pytest.approx(total_ml)
    with pytest.raises(InputError, match=r"belongs to the scan|lies elsewhere"):
        read_labelled_mask(files[0], read_volume(sample_paths()[0]))


# --- Studies as hospitals send them ----------------------------------------------------------------


def test_02_the_same_image_twice_is_passed_over(build: Build) -> None:
    volume = read_volume(build("02") / "ct")
    assert len(volume.hu_zyx) == 10
    assert volume.geometry.is_even and volume.warnings == ()
    assert volume.notes == ("Passed over: 1 file that is there twice (IM0004.dcm).",)


def test_03_two_kernels_under_one_uid_are_two_series(build: Build) -> None:
    volume = read_volume(build("03") / "ct")
    assert volume.name == "HEAD 5.0 H31s, kernel H31s, 10 slices"
    (bone,) = volume.series
    assert (bone.label, bone.slices, bone.refusal) == ("HEAD 5.0 H31s, kernel H60s", 10, "")
    for key in (bone.key, bone.short):
        noisy = read_volume(build("03") / "ct", series=key)
        brain = (volume.hu_zyx > 20) & (volume.hu_zyx < 50)
        assert noisy.hu_zyx[brain].std() == pytest.approx(40, rel=0.2)
        assert volume.hu_zyx[brain].std() < 10
        assert noisy.name.startswith(bone.label)


def test_04_a_deflated_report_is_passed_over(build: Build) -> None:
    volume = read_volume(build("04") / "ct")
    assert volume.shape_zyx == (10, 128, 128)
    assert volume.notes == ("Passed over: 1 structured report (DOSE_SR.dcm).",)


def test_06_a_screen_save_in_the_series_is_passed_over(build: Build) -> None:
    volume = read_volume(build("06") / "ct")
    assert volume.shape_zyx == (10, 128, 128)
    (note,) = volume.notes
    assert note == "Passed over: 1 screen save (IM0099.dcm)."
    assert "IM0099" not in str(scan_record(volume)), "no file name in what is written"


def test_07_a_nifti_in_a_zip(build: Build) -> None:
    volume = read_volume(build("07") / "patient01.zip")
    assert volume.shape_zyx == (30, 128, 128)
    np.testing.assert_allclose(volume.spacing_mm, (5.0, 1.8, 1.8), rtol=1e-6)
    alone = read_volume(build("07") / "patient01.nii.gz")
    np.testing.assert_array_equal(volume.hu_zyx, alone.hu_zyx)


def test_08_a_zip_in_a_zip(build: Build) -> None:
    volume = read_volume(build("08") / "study.zip")
    assert volume.shape_zyx == (10, 128, 128)


def test_15_a_nifti_pair(build: Build) -> None:
    folder = build("15")
    expected = read_volume(sample_paths()[0])
    for given in (folder / "ct.hdr", folder / "ct.img", [folder / "ct.img", folder / "ct.hdr"]):
        volume = read_volume(given)
        np.testing.assert_array_equal(volume.hu_zyx, expected.hu_zyx)
        np.testing.assert_allclose(volume.geometry.affine, expected.geometry.affine, atol=1e-4)


def test_17_no_series_uid(build: Build) -> None:
    assert len(read_volume(build("17") / "ct").hu_zyx) == 10


def test_20_a_dicomdir_by_itself(build: Build) -> None:
    with pytest.raises(VolumeError, match="give the whole folder that it lies in"):
        read_volume(build("20") / "DICOMDIR")
    assert len(read_volume(build("20") / "cd").hu_zyx) == 3


@pytest.mark.parametrize(
    ("folder", "other", "refused"),
    [
        ("ncct+bone", "Head 2.5 H60s BONE", False),
        ("ncct+cta", "CTA Head 1.25 B20f", False),
        ("ncct+ctp", "CTP 5.0 H20f", True),
    ],
)
def test_32_the_plain_soft_series_of_a_stroke_study(
    build: Build, folder: str, other: str, refused: bool
) -> None:
    volume = read_volume(build("32") / folder)
    assert volume.name == "Head 5.0 H31s, 10 slices"
    assert [(one.label, bool(one.refusal)) for one in volume.series] == [(other, refused)]


def test_37_a_blank_modality(build: Build) -> None:
    assert len(read_volume(build("37") / "ct").hu_zyx) == 10


def test_43_a_lost_slice_far_from_the_blood(build: Build) -> None:
    volume = read_volume(build("43") / "ct")
    assert volume.slice_heights_mm.tolist() == [10.0, 7.5] + [5.0] * 27
    (warning,) = volume.warnings
    assert "between slices 1 and 2 (10.0 mm where 5.0 mm is usual)" in warning


def test_01_padding_of_unsigned_pixels_is_air(build: Build) -> None:
    volume = read_volume(build("01") / "ct")
    assert volume.hu_zyx.max() <= 1240
    assert (volume.hu_zyx[:, [0, 0, -1, -1], [0, -1, 0, -1]] == -1024).all()


def test_13_hu_plus_1000_is_offered_its_own_offset(build: Build) -> None:
    folder = build("13")
    with pytest.raises(VolumeError, match=r"open it with add_offset=-1000\."):
        read_volume(folder / "ct.nii.gz")
    volume = read_volume(folder / "ct.nii.gz", add_offset=-1000)
    original = read_volume(sample_paths()[0])
    np.testing.assert_array_equal(volume.hu_zyx, np.maximum(original.hu_zyx, -1000))


@pytest.mark.slow
def test_23_float64_of_600_slices_opens(build: Build) -> None:
    volume = read_volume(build("23") / "float64_600.nii.gz")
    assert volume.shape_zyx == (600, 512, 512)
    assert volume.hu_zyx.dtype == np.int16


@pytest.mark.slow
def test_27_the_page_opens_1200_files(build: Build, unhurried: Controller) -> None:
    """They come in portions, which tests/e2e/test_page.py sends with 1,001; here as the page gives them on."""
    given = sorted((build("27") / "many").iterdir())
    assert len(given) == 1200
    files = []
    for number, path in enumerate(given):
        folder = unhurried.shared.upload_root / str(number)
        folder.mkdir()
        files.append({"path": str(shutil.copy(path, folder)), "name": path.name})
    unhurried.shared.read = read_volume
    reply = Page(unhurried, "x").ask("open", files=files)
    assert reply["error"] is None and reply["scan"]["shape"] == [1200, 16, 16]


def test_40_scan_and_mask_in_nrrd_and_meta_image(build: Build) -> None:
    folder = build("40")
    for name in ("ct.nrrd", "ct.mha"):
        volume = read_volume(folder / name)
        assert volume.shape_zyx == (30, 128, 128)
        assert volume.spacing_mm == pytest.approx((5.0, 1.8, 1.8))
        given = read_labelled_mask(folder / "Segmentation.seg.nrrd", volume)
        assert volume_ml(given.labels_zyx != 0, volume) > 20


def test_22_a_tilted_series_names_what_itk_programs_open(build: Build, tmp_path: Path) -> None:
    folder = build("22") / "ct"
    box = ["--slice", "5", "--box", "71,43,87,72", "--model", "threshold"]
    out = ["--out", str(tmp_path / "mask.nii.gz"), "--regular-grid", str(tmp_path)]
    answer = CliRunner().invoke(app, ["segment", str(folder), *box, *out])
    assert answer.exit_code == 0, answer.output
    assert "ITK" in answer.output and "--out mask.dcm" in answer.output
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(tmp_path / "mask.nii.gz")
    ct, mask = (
        sitk.ReadImage(next(tmp_path.glob(f"*-regular-grid-{one}.nii.gz")))
        for one in ("scan", "mask")
    )
    assert ct.GetOrigin() == mask.GetOrigin() and ct.GetDirection() == mask.GetDirection()
    volume = read_volume(folder)
    own = volume_ml(read_mask(tmp_path / "mask.nii.gz", volume) != 0, volume)
    voxel_ml = np.prod(mask.GetSpacing()) / 1000
    assert (sitk.GetArrayFromImage(mask) != 0).sum() * voxel_ml == pytest.approx(own, rel=1e-3)
    assert f"{own:.2f} mL on the scan's own grid" in answer.output
