"""What reading a scan takes of memory: one array of HU, and little beside it; and what is refused before it is read."""

from __future__ import annotations

import gzip
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pydicom
import pytest
import SimpleITK as sitk

from ichseg.errors import Cancelled, VolumeError, cancelling
from ichseg.page.folders import ServerFolder
from ichseg.page.sessions import SessionStore
from ichseg.scan import hounsfield, intake, scale
from ichseg.scan.read import read_volume

SHAPE_XYZ = (160, 192, 128)
MIB = 1 << 20


def peak_of(work: Callable[[], object]) -> tuple[object, float]:
    """What some work returns, and how many MiB it took at its peak."""
    tracemalloc.start()
    try:
        done = work()
        return done, tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan of 7.5 MiB, stored from head to foot, so that it is turned when it is read."""
    hu = np.full(SHAPE_XYZ, -1000, np.int16)
    hu[30:130, 30:160] = 35
    hu[28:32, 30:160] = hu[128:132, 30:160] = 900
    affine = np.diag([1.2, 1.0, -1.2, 1.0])
    path = tmp_path_factory.mktemp("head") / "scan.nii.gz"
    nib.save(nib.Nifti1Image(hu, affine), path)
    return path


def test_a_scan_is_read_into_one_array(head: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (hounsfield, scale):
        monkeypatch.setattr(module, "SAMPLE_VALUES", 1 << 14)
    own = np.prod(SHAPE_XYZ) * 2 / MIB
    volume, peak = peak_of(lambda: read_volume(head))
    assert peak < 1.35 * own  # it was held twice while it was turned
    assert volume.hu_zyx.flags.c_contiguous and volume.hu_zyx.nbytes / MIB == own  # type: ignore[attr-defined]


def test_a_scan_is_sent_slice_by_slice(head: Path, tmp_path: Path) -> None:
    volume = read_volume(head)
    store = SessionStore(folder=ServerFolder(tmp_path))
    session = store.get("x")
    path, peak = peak_of(lambda: session.write_voxels(volume))
    assert peak < 0.5 * volume.hu_zyx.nbytes / MIB  # it was four times as much
    raw = np.frombuffer(gzip.decompress(path.read_bytes()), "<i2")  # type: ignore[attr-defined]
    steps = raw.reshape(volume.shape_zyx)
    assert np.array_equal(np.cumsum(steps, axis=2, dtype=np.int16), volume.hu_zyx)
    store.close()


def test_an_nrrd_is_not_held_twice_beside_its_hu(
    head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (hounsfield, scale):
        monkeypatch.setattr(module, "SAMPLE_VALUES", 1 << 14)
    path = tmp_path / "scan.nrrd"
    image = sitk.GetImageFromArray(np.ascontiguousarray(read_volume(head).hu_zyx))
    image.SetSpacing((1.2, 1.0, 1.2))
    sitk.WriteImage(image, str(path), True)
    volume, peak = peak_of(lambda: read_volume(path))
    # ITK's own memory is not counted.
    assert peak < 1.35 * volume.hu_zyx.nbytes / MIB  # type: ignore[attr-defined]


def test_a_long_side_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    """Millions of slices of four pixels would be looked at one by one."""
    path = tmp_path / "scan.nii"
    header = nib.Nifti2Header()
    header.set_data_shape((2, 2, 40_000_000))
    header.set_data_dtype(np.int16)
    header["vox_offset"] = 544
    path.write_bytes(header.binaryblock + bytes(4))
    nrrd = tmp_path / "scan.nrrd"
    nrrd.write_bytes(
        b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 40000000\nspacings: 1 1 1\n"
        b"encoding: gzip\nendian: little\n\n" + gzip.compress(bytes(100))
    )
    for one in (path, nrrd):
        began = time.monotonic()
        with pytest.raises(VolumeError, match="at most 4,096 slices, rows and columns, but this"):
            read_volume(one)
        assert time.monotonic() - began < 5


def one_image(folder: Path) -> Path:
    """A file of a series."""
    images = phantoms.dicom_slices(phantoms.speckled_head(), (0, 5, 10, 15, 20, 25, 30, 35, 40))
    return next(phantoms.save_dicom(folder / "series", images[:1]).iterdir())


@pytest.mark.parametrize(("element", "value"), [("NumberOfFrames", 2**31 - 1), ("Rows", 60_000)])
def test_a_dicom_file_that_says_it_has_billions_of_frames_is_refused_by_its_header(
    tmp_path: Path, element: str, value: int
) -> None:
    path = one_image(tmp_path)
    dataset = pydicom.dcmread(path)
    setattr(dataset, element, value)
    dataset.save_as(path)
    began = time.monotonic()
    with pytest.raises(VolumeError, match="at most 4,096 slices, rows and columns"):
        read_volume(path)
    assert time.monotonic() - began < 5


def test_frames_that_are_decoded_together_are_bounded_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = one_image(tmp_path)
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames = 4000
    dataset.save_as(path)
    monkeypatch.setattr(hounsfield, "MAX_BYTES", 3999 * dataset.Rows * dataset.Columns * 2)
    with pytest.raises(VolumeError, match="MiB unpacked"):
        read_volume(path)


def test_what_a_zip_holds_is_unpacked_onto_the_disk(
    head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_IN_MEMORY_BYTES", MIB)
    for module in (hounsfield, scale):
        monkeypatch.setattr(module, "SAMPLE_VALUES", 1 << 14)
    folder = tmp_path / "ct"
    folder.mkdir()
    (folder / "scan.nii").write_bytes(gzip.decompress(head.read_bytes()))
    packed = phantoms.save_zip(tmp_path / "scan.zip", folder)
    volume, peak = peak_of(lambda: read_volume(packed))
    assert np.array_equal(volume.hu_zyx, read_volume(head).hu_zyx)  # type: ignore[attr-defined]
    assert peak < 1.35 * volume.hu_zyx.nbytes / MIB + 4  # type: ignore[attr-defined]


def test_reading_ends_when_it_is_cancelled(head: Path) -> None:
    asked: list[int] = []
    with (
        pytest.raises(Cancelled),
        cancelling(lambda: len(asked) > 3 or asked.append(1) is not None),
    ):
        read_volume(head)
    assert len(asked) == 4
