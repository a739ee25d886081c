"""Stored values to HU: padding, NaN, offsets, and what is held while it is read."""

from __future__ import annotations

import gzip
import resource
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import phantoms
import pytest
from pydicom.uid import ImplicitVRLittleEndian

from ichseg.errors import VolumeError
from ichseg.sample import sample_paths
from ichseg.scan import hounsfield, scale
from ichseg.scan.hounsfield import Plane, padding_mask, stack_hounsfield
from ichseg.scan.read import read_volume

AIR = scale.LOWEST_HU
SHAPE = (6, 64, 64)


@pytest.fixture(scope="module")
def head() -> npt.NDArray[np.int16]:
    """A head with noise in air, [z, y, x]."""
    return phantoms.speckled_head(SHAPE)


@pytest.fixture(scope="module")
def outside() -> npt.NDArray[np.bool_]:
    """What a disc of a field of view leaves out of a slice, [y, x]."""
    y, x = np.mgrid[:64, :64] - 31.5
    return np.asarray(y**2 + x**2 > 31.0**2)


def stack(
    values: npt.NDArray[Any], slope: float = 1.0, intercept: float = 0.0, **options: Any
) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    planes = (Plane(plane, slope, intercept, **options) for plane in values)
    return stack_hounsfield("scan", values.shape, planes)  # type: ignore[arg-type]


# --- Padding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "stored", "first", "last"),
    [
        (np.uint16, 63536, 63536, None),
        (np.uint16, 63536, -2000, None),  # the element is signed, the pixels are not
        (np.int16, -2000, 63536, None),  # and the other way about
        (np.int16, -2000, -2000, None),
        (np.uint16, 0x8000, -0x8000, None),
        (np.int16, -0x8000, 0x8000, None),
        (np.uint16, 63600, 63536, 64000),
        (np.uint16, 63600, 64000, 63536),  # the limit may be below the value
        (np.uint16, 63600, -2000, -1536),
        (np.uint16, 2096, 63536, None),  # 12 bits of it are stored
        (np.int16, 32767, 32767, None),
        (np.uint16, 0, 0, None),
    ],
)
def test_padding_is_air_however_it_is_written(
    head: npt.NDArray[np.int16],
    outside: npt.NDArray[np.bool_],
    dtype: type[np.generic],
    stored: int,
    first: int,
    last: int | None,
) -> None:
    raw = (head + 1024).astype(dtype)
    raw[:, outside] = stored
    mask = padding_mask(raw[0], first, last, 12)
    assert mask is not None
    planes = (Plane(plane, 1, -1024, padding_mask(plane, first, last, 12)) for plane in raw)
    hu_zyx, notes = stack_hounsfield("scan", SHAPE, planes)
    np.testing.assert_array_equal(hu_zyx, np.where(outside, AIR, head))
    count = outside.sum() * len(head) if stored > 100 else 0  # else it was air before
    assert notes == (
        (f"{count:,} voxels of padding outside the field of view were set to air.",)
        if count
        else ()
    )


def test_a_padding_value_that_tissue_has_too_is_padding_at_the_edge_alone(
    head: npt.NDArray[np.int16], outside: npt.NDArray[np.bool_]
) -> None:
    raw = head.astype(np.int16)
    raw[:, outside] = 0  # HU 0, as cerebrospinal fluid
    raw[:, 28:32, 28:32] = 0
    planes = (Plane(plane, padding=padding_mask(plane, 0, None, 16)) for plane in raw)
    hu_zyx, _ = stack_hounsfield("scan", SHAPE, planes)
    np.testing.assert_array_equal(hu_zyx, np.where(outside, AIR, raw))


@pytest.mark.parametrize("value", [2048, 3071, 4095, 31744, 62512])
def test_padding_that_nobody_names_is_air(
    head: npt.NDArray[np.int16], outside: npt.NDArray[np.bool_], value: int
) -> None:
    values = np.where(outside, value, head.astype(np.int32))
    hu_zyx, (note,) = stack(values)
    np.testing.assert_array_equal(hu_zyx, np.where(outside, AIR, head))
    assert hu_zyx.dtype == np.int16
    assert note.startswith(f"{outside.sum() * len(head):,} voxels of padding")


def test_a_strip_of_a_value_beyond_any_scanners_is_air(head: npt.NDArray[np.int16]) -> None:
    raw = (head.astype(np.int32) + 1024).astype(np.uint16)
    raw[:, :, :3] = 63536  # along one side, in two of the four corners
    hu, notes = stack(raw, 1, -1024)
    assert hu[:, :, :3].max() == -1024
    np.testing.assert_array_equal(hu[:, :, 3:], head[:, :, 3:])
    assert "voxels of padding" in " ".join(notes)


@pytest.mark.parametrize("value", [-3024, -2000, -1024])
def test_padding_below_air_is_air(
    head: npt.NDArray[np.int16], outside: npt.NDArray[np.bool_], value: int
) -> None:
    hu_zyx, notes = stack(np.where(outside, value, head))
    np.testing.assert_array_equal(hu_zyx, np.where(outside, AIR, head))
    assert notes == ()


def test_metal_and_bone_stay_as_they_are(head: npt.NDArray[np.int16]) -> None:
    values = head.astype(np.int32)
    values[:, 20:24, 30:34] = 3071
    values[2, 0, 0] = 3071
    hu_zyx, notes = stack(values)
    np.testing.assert_array_equal(hu_zyx, values)
    assert notes == ()


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(
    ("representation", "stored", "vr", "first"),
    [(0, 63536, "US", 63536), (0, 63536, "SS", -2000), (1, -2000, "SS", -2000)],
)
def test_a_dicom_series_says_what_is_padding(
    tmp_path: Path,
    head: npt.NDArray[np.int16],
    outside: npt.NDArray[np.bool_],
    representation: int,
    stored: int,
    vr: str,
    first: int,
    implicit: bool,
) -> None:
    slices = phantoms.dicom_slices(head, [5.0 * k for k in range(len(head))], (3.0, 3.0))
    dtype = np.int16 if representation else np.uint16
    for k, dataset in enumerate(slices):
        raw = (head[k] + 1024).astype(dtype)
        raw[outside] = stored
        dataset.PixelRepresentation = representation
        dataset.PixelData = raw.astype(raw.dtype.newbyteorder("<")).tobytes()
        dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
        dataset.add_new(0x00280120, vr, first)
        if implicit:
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.save_as(tmp_path / f"{k}.dcm", implicit_vr=implicit, little_endian=True)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.hu_zyx, np.where(outside, AIR, head))


# --- NaN -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_nan_outside_the_field_of_view_is_air(
    head: npt.NDArray[np.int16], outside: npt.NDArray[np.bool_], value: float
) -> None:
    values = np.where(outside, value, head)
    values[-1] = value  # an end slice that was never scanned
    hu_zyx, (note,) = stack(values)
    np.testing.assert_array_equal(hu_zyx[:-1], np.where(outside, AIR, head[:-1]))
    assert (hu_zyx[-1] == AIR).all()
    assert hu_zyx.dtype == np.int16
    count = outside.sum() * (len(head) - 1) + outside.size
    assert note == (
        f"{count:,} voxels outside the field of view held no number (NaN) and were set to air."
    )


def test_nan_around_an_extracted_brain_is_air(head: npt.NDArray[np.int16]) -> None:
    brain = (head > 0) & (head < 100)
    brain[:, 40:, 34:36] = False  # not convex
    hu_zyx, (note,) = stack(np.where(brain, head, np.float32(np.nan)))
    np.testing.assert_array_equal(hu_zyx, np.where(brain, head, AIR))
    assert f"{(~brain).sum():,} voxels" in note


@pytest.mark.parametrize(
    "where",
    [
        np.s_[3, 28:30, 30:35],  # in the brain
        np.s_[3],  # a slice that was lost
        np.s_[:, 30:32, :],  # rows that were lost
        np.s_[2, 25:35, :40],  # from the edge into the head
    ],
)
@pytest.mark.parametrize("round_field", [False, True])
def test_nan_in_the_head_is_refused(
    head: npt.NDArray[np.int16],
    outside: npt.NDArray[np.bool_],
    where: Any,
    round_field: bool,
) -> None:
    values = np.where(outside & round_field, np.nan, head.astype(np.float64))
    values[where] = np.nan
    with pytest.raises(VolumeError, match="voxels are NaN or infinite"):
        stack(values)


# --- Offsets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "unsigned"),
    [
        *((offset, False) for offset in (1000, 1024, 2048, 32768, 500, 1200, -1000, -1024)),
        *((offset, True) for offset in (1000, 1024, 2048, 32768, 1200)),
    ],
)
def test_the_offset_that_is_offered_puts_air_and_tissue_where_they_belong(
    head: npt.NDArray[np.int16], offset: int, unsigned: bool
) -> None:
    values = head.astype(np.int32) + offset
    if unsigned:
        values = np.maximum(values, 0)
    with pytest.raises(VolumeError, match=rf"open it with add_offset={-offset}\."):
        stack(values)
    hu_zyx, _ = stack(values, intercept=-offset)
    assert np.median(hu_zyx[3, 25:35, 30:40]) == pytest.approx(phantoms.BRAIN_HU, abs=4)


def test_padding_does_not_mislead_the_offer(
    head: npt.NDArray[np.int16], outside: npt.NDArray[np.bool_]
) -> None:
    for padding in (0, -2000, 63536):
        with pytest.raises(VolumeError, match="add_offset=-1000"):
            stack(np.where(outside, padding, head.astype(np.int32) + 1000))


@pytest.mark.parametrize("offset", [4096, 8192, 32768])
def test_air_of_one_value_is_no_padding_where_the_offset_is_wrong(
    head: npt.NDArray[np.int16], outside: npt.NDArray[np.bool_], offset: int
) -> None:
    """Clipped at -1024 and stored unsigned, as ImageJ does: one high value in all corners."""
    clipped = np.where(outside | (head < -900), AIR, head).astype(np.int32)
    refused = rf"run from {offset + AIR} to .* open it with add_offset=-{offset}\."
    with pytest.raises(VolumeError, match=refused):
        stack(clipped + offset)


def test_a_scale_that_padding_hides_is_refused(head: npt.NDArray[np.int16]) -> None:
    """HU + 1000, whose air of -1024 became 65512 in uint16: blood read as 1058 HU."""
    values = np.where(head < -900, AIR, head).astype(np.int32) + 1000
    with pytest.raises(VolumeError, match="a head CT holds Hounsfield units"):
        stack(values.astype(np.uint16))


def test_an_offset_that_was_asked_for_and_is_wrong_is_a_warning(
    head: npt.NDArray[np.int16],
) -> None:
    right, _ = stack(np.maximum(head.astype(np.int32) + 1000, 0), intercept=-1000)
    wrong, _ = stack(np.maximum(head.astype(np.int32) + 1000, 0), intercept=-1024)
    assert scale.offset_doubts(right, -1000) == ()
    assert scale.offset_doubts(head, 0) == ()
    (warning,) = scale.offset_doubts(wrong, -1024)
    assert "soft tissue lies at 11 HU" in warning and "with -1000 they would lie at 35" in warning


@pytest.mark.parametrize("air", ["noise", "masked"])
@pytest.mark.parametrize(
    ("offset", "dtype", "steps"),
    [
        (0, np.uint16, "subtract 65536 from those above 32767, and save"),
        (1000, np.uint16, "subtract 65536 from those above 32767, then subtract 1000, and save"),
        (32768, np.int16, "subtract 65536 from those above 0, then add 32768, and save"),
    ],
)
def test_values_that_wrapped_around_are_said_to_have(
    head: npt.NDArray[np.int16], offset: int, dtype: type[np.generic], steps: str, air: str
) -> None:
    hu = head.astype(np.int64)
    if air == "masked":
        hu[hu < -900] = AIR
    wrapped = (hu + offset).astype(np.uint16).view(dtype)
    with pytest.raises(VolumeError, match="wrapped around at 16 bits") as caught:
        stack(wrapped)
    assert steps in str(caught.value)
    turn = 65536
    one = int(steps.split("above ")[1].split(",")[0])
    mended = wrapped.astype(np.int64)
    mended[mended > one] -= turn
    np.testing.assert_array_equal(mended + (32768 if dtype is np.int16 else -offset), hu)


def test_what_is_said_of_the_values_is_true_below_air_too(head: npt.NDArray[np.int16]) -> None:
    low = np.where(head < -900, AIR, head).astype(np.int32) - 31744  # HU + 1024 from -32768 on
    with pytest.raises(VolumeError, match=r"run from -32768 to .* open it with add_offset=31744\."):
        stack(low.astype(np.int16))
    with pytest.raises(VolumeError, match="every voxel is -3000"):
        stack(np.full(SHAPE, -3000, np.int16))
    with pytest.raises(VolumeError, match="all of it is what the file calls padding"):
        stack(np.full(SHAPE, -3000, np.int16) + head // 100, padding=np.ones(SHAPE[1:], bool))


@pytest.mark.parametrize("air", [-1000, AIR])
@pytest.mark.parametrize(("stored", "intercept"), [(1024, -1000), (1000, -1024), (1024, -984)])
def test_an_intercept_of_the_other_usual_offset_is_a_warning(
    tmp_path: Path, head: npt.NDArray[np.int16], stored: int, intercept: int, air: int
) -> None:
    hu = np.where(head < -900, air + np.clip(head + 1000, -5, 5) * (air == -1000), head)
    for slices_intercept, folder in ((-stored, "right"), (intercept, "wrong")):
        slices = phantoms.dicom_slices(hu, [5.0 * k for k in range(6)], intercept=-stored)
        for image in slices:
            image.RescaleIntercept = slices_intercept
        phantoms.save_dicom(tmp_path / folder, slices)
    assert read_volume(tmp_path / "right").warnings == ()
    (warning,) = read_volume(tmp_path / "wrong").warnings
    left = -stored - intercept
    assert f"with add_offset={left} soft tissue would lie at 35 HU" in warning
    known = f"values stored as HU + {stored} are read with an intercept of {intercept}"
    assert (known in warning) == (intercept != -984)
    mended = read_volume(tmp_path / "wrong", add_offset=left)
    assert mended.warnings == ()
    inside = np.s_[:, 25:30, 30:35]
    np.testing.assert_array_equal(mended.hu_zyx[inside], hu[inside])


@pytest.mark.parametrize("tissue", [22, 28, 42, 48])
@pytest.mark.parametrize("air", [-1000, AIR])
def test_no_tissue_that_heads_have_is_called_an_offset(
    head: npt.NDArray[np.int16], tissue: int, air: int
) -> None:
    """An infant's brain is darker and an enhanced one brighter than 35 HU."""
    hu = np.where(head < -900, air, np.where(head < 100, head - 35 + tissue, head))
    assert scale.offset_doubts(hu.astype(np.int16), 0) == ()


@pytest.mark.parametrize(
    ("odd", "off"), [((2,), 1024), ((2, 3), 1024), ((2, 3), -1024), ((0,), 1024), ((8,), 1024)]
)
def test_a_slice_without_its_intercept_is_a_warning(odd: tuple[int, ...], off: int) -> None:
    images = phantoms.speckled_head((9, 64, 64)).astype(np.int32)
    assert scale.scale_doubts(images.astype(np.int16)) == ()
    for index in odd:
        images[index] = np.maximum(images[index] + off, AIR)
    (warning,) = scale.scale_doubts(images.astype(np.int16))
    assert f"slice {', '.join(str(index + 1) for index in odd)} lie off" in warning


def test_no_slice_of_an_ordinary_head_is_in_doubt() -> None:
    for path in (sample_paths()[0], sample_paths()[0].with_name("head_ct_followup.nii.gz")):
        hu_zyx = read_volume(path).hu_zyx
        assert scale.scale_doubts(hu_zyx) == scale.scale_doubts(hu_zyx[::2]) == ()


# --- Size ------------------------------------------------------------------------------------------


def store_float64(path: Path, shape: tuple[int, int, int], promised: int | None = None) -> Path:
    """A gzipped NIfTI of float64 with whole HU, written plane by plane; its header may promise more planes."""
    header = nib.Nifti1Header()
    header.set_data_shape((*shape[:2], promised or shape[2]))
    header.set_data_dtype(np.float64)
    header.set_sform(np.diag([-0.7, -0.7, 0.5, 1.0]), 1)
    header["pixdim"][1:4] = (0.7, 0.7, 0.5)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    plane = phantoms.speckled_head((3, shape[0], shape[1]))[1].astype("<f8")
    with gzip.open(path, "wb", 1) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(shape[2]):
            file.write(plane.tobytes())
    return path


def test_the_bound_is_on_what_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store_float64(tmp_path / "a.nii.gz", (64, 64, 20))
    monkeypatch.setattr(hounsfield, "MAX_BYTES", 64 * 64 * 20 * 2)
    volume = read_volume(path)
    assert volume.hu_zyx.dtype == np.int16 and volume.hu_zyx.nbytes == hounsfield.MAX_BYTES
    monkeypatch.setattr(hounsfield, "MAX_BYTES", 64 * 64 * 20 * 2 - 1)
    with pytest.raises(VolumeError, match="at most 0 MiB"):
        read_volume(path)


def test_values_that_are_not_whole_are_told_to_be_saved_as_such(
    monkeypatch: pytest.MonkeyPatch, head: npt.NDArray[np.int16]
) -> None:
    monkeypatch.setattr(hounsfield, "MAX_BYTES", head.size * 3)
    with pytest.raises(VolumeError, match="save it as int16, in whole HU"):
        stack(head + 0.25)


def test_a_small_file_that_would_unpack_to_much_is_not_unpacked(tmp_path: Path) -> None:
    path = store_float64(tmp_path / "a.nii.gz", (1024, 1024, 8), promised=800)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(VolumeError, match="at most 1,024 MiB unpacked"):
        read_volume(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
