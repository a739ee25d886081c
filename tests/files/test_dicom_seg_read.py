"""DICOM-SEG read back: ours, what highdicom writes of every kind, and what dcmqi wrote."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import highdicom.seg
import numpy as np
import numpy.typing as npt
import phantoms
import pydicom
import pytest
from highdicom.color import CIELabColor
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from ichseg.errors import VolumeError
from ichseg.files.dicom_seg import segmentation_bytes
from ichseg.files.mask import read_labelled_mask
from ichseg.files.segments import codes_of, type_of
from ichseg.marks.lesion import TYPES, Lesion
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

EVEN_MM = [-20.0 + 5 * k for k in range(9)]
UNEVEN_MM = [0.0, 4, 8, 12, 16, 23, 30, 37, 44]
LESIONS = (Lesion(1, "Left thalamus", type="IPH"), Lesion(2), Lesion(5, "Æther | 5", type="IVH"))
Labels = npt.NDArray[np.uint8]


def labels_of(shape: tuple[int, ...]) -> Labels:
    labels = np.zeros(shape, dtype=np.uint8)
    part = labels[:, 5:33, 8:46]
    part[:] = np.random.default_rng(0).choice([0, 0, 1, 5], part.shape)
    labels[3] = 0
    return labels


def scan(
    folder: Path, positions: list[float] = EVEN_MM, **options: Any
) -> tuple[CTVolume, list[pydicom.Dataset]]:
    images = phantoms.dicom_slices(phantoms.speckled_head(), positions, **options)
    return read_volume(phantoms.save_dicom(folder, images)), images


def saved(path: Path, dataset: pydicom.Dataset) -> Path:
    dataset.save_as(path, enforce_file_format=True)
    return path


def by_highdicom(
    images: list[pydicom.Dataset],
    pixels: npt.NDArray[Any],
    kind: str = "BINARY",
    types: tuple[Code, ...] = (codes_of("SDH")[0], Code("10200004", "SCT", "Liver")),
    **options: Any,
) -> highdicom.seg.Segmentation:
    """Another program's segmentation of [frame, row, column(, segment)] with segments 1, 2."""
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"Segment {number}",
            segmented_property_category=Code("85756007", "SCT", "Tissue"),
            segmented_property_type=code,
            algorithm_type="MANUAL",
            display_color=CIELabColor.from_rgb(18, 52, 86),
        )
        for number, code in enumerate(types, 1)
    ]
    return highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=3,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Somebody",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
        **options,
    )


# --- Ours --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", ["yx", "YX", "xY"])
@pytest.mark.parametrize(("positions", "tilt"), [(EVEN_MM, 0.0), (EVEN_MM, 18.5), (UNEVEN_MM, -20)])
def test_ours_comes_back_on_every_geometry(
    tmp_path: Path, positions: list[float], tilt: float, stored: str
) -> None:
    volume, _ = scan(tmp_path / "ct", positions, tilt_degrees=tilt, stored=stored)
    labels = labels_of(volume.shape_zyx)
    content = segmentation_bytes(labels, volume, LESIONS, model="threshold", made="threshold 1")
    (tmp_path / "m.dcm").write_bytes(content)
    given = read_labelled_mask(tmp_path / "m.dcm", volume)
    np.testing.assert_array_equal(given.labels_zyx, labels)
    assert given.lesions == (LESIONS[0], LESIONS[2])
    assert (given.scan_sha256, given.method) == (volume.sha256, "threshold")
    assert (given.identity, given.notes) == ("threshold 1", ())


def test_ours_of_a_multi_frame_file(tmp_path: Path) -> None:
    images = phantoms.dicom_slices(phantoms.speckled_head(), UNEVEN_MM, stored="yX")
    multi = phantoms.enhanced_ct([images[k] for k in (4, 0, 2, 8, 1, 3, 7, 5, 6)])
    volume = read_volume(phantoms.save_dicom(tmp_path / "ct", [multi], ["one.dcm"]))
    labels = labels_of(volume.shape_zyx)
    (tmp_path / "m.dcm").write_bytes(segmentation_bytes(labels, volume, LESIONS))
    np.testing.assert_array_equal(read_labelled_mask(tmp_path / "m.dcm", volume).labels_zyx, labels)


def test_ours_on_the_same_scan_as_nifti(tmp_path: Path) -> None:
    volume, _ = scan(tmp_path / "ct")
    labels = labels_of(volume.shape_zyx)
    (tmp_path / "m.dcm").write_bytes(segmentation_bytes(labels, volume, LESIONS))
    affine = volume.geometry.affine
    nifti = read_volume(phantoms.store_nifti(tmp_path / "ct.nii.gz", volume.hu_zyx, affine))
    given = read_labelled_mask(tmp_path / "m.dcm", nifti)
    np.testing.assert_array_equal(given.labels_zyx, labels)
    other = phantoms.speckled_head(seed=1)
    nifti = read_volume(phantoms.store_nifti(tmp_path / "other.nii.gz", other, affine))
    with pytest.raises(VolumeError, match="a mask belongs to the scan that it was made on"):
        read_labelled_mask(tmp_path / "m.dcm", nifti)


def test_ours_with_another_offset_is_refused(tmp_path: Path) -> None:
    volume, _ = scan(tmp_path / "ct")
    (tmp_path / "m.dcm").write_bytes(
        segmentation_bytes(labels_of(volume.shape_zyx), volume, LESIONS)
    )
    with pytest.raises(VolumeError, match="with the same series and offset"):
        read_labelled_mask(tmp_path / "m.dcm", read_volume(tmp_path / "ct", add_offset=10))


# --- Other people's ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize(("positions", "tilt"), [(EVEN_MM, 0.0), (UNEVEN_MM, 18.5)])
def test_every_kind_of_segmentation(
    tmp_path: Path, kind: str, positions: list[float], tilt: float
) -> None:
    volume, images = scan(tmp_path / "ct", positions, tilt_degrees=tilt)
    labels = np.where(labels_of(volume.shape_zyx) == 5, 2, labels_of(volume.shape_zyx))
    pixels: Any = labels
    if kind == "FRACTIONAL":
        pixels = np.stack([labels == 1, labels == 2], axis=-1).astype(np.float32)
    path = saved(tmp_path / "m.dcm", by_highdicom(images, pixels, kind))
    given = read_labelled_mask(path, volume)
    np.testing.assert_array_equal(given.labels_zyx, labels)
    assert given.lesions == (
        Lesion(1, "Segment 1", "SDH", "#123456"),
        Lesion(2, "Segment 2", "unspecified", "#123456"),
    )
    assert given.scan_sha256 is None
    assert given.notes == (
        "m.dcm does not say which kind of lesion 'Segment 2 (Liver)' is: it is read as blood of no stated type.",
    )


@pytest.mark.parametrize("fraction", ["PROBABILITY", "OCCUPANCY"])
@pytest.mark.parametrize("most", [255, 100, 1])
def test_fractions_are_cut_at_a_half(tmp_path: Path, fraction: str, most: int) -> None:
    volume, images = scan(tmp_path / "ct")
    labels = labels_of(volume.shape_zyx)
    shares = np.zeros((*volume.shape_zyx, 2), np.float32)
    shares[labels == 1, 0], shares[labels == 5, 1] = 0.8, 0.51
    shares[..., 0][(labels == 0) & (np.indices(labels.shape)[2] % 2 == 0)] = 0.4
    made = by_highdicom(
        images, shares, "FRACTIONAL", fractional_type=fraction, max_fractional_value=most
    )
    given = read_labelled_mask(saved(tmp_path / "m.dcm", made), volume)
    np.testing.assert_array_equal(given.labels_zyx, np.where(labels == 5, 2, labels))
    if most == 1:  # nothing lies between
        assert not any("fractional" in note for note in given.notes)
        return
    between = int(np.count_nonzero(shares))
    (note,) = (note for note in given.notes if "fractional" in note)
    assert note == (
        f"m.dcm is a fractional segmentation ({fraction.lower()}): what has a half of its maximum or more was taken as"
        f" in; {between:,} values lie between none and all."
    )


@pytest.mark.parametrize(
    ("value", "most", "is_in"), [(127, 255, False), (128, 255, True), (50, 100, True)]
)
def test_a_half_is_in(tmp_path: Path, value: int, most: int, is_in: bool) -> None:
    volume, images = scan(tmp_path / "ct")
    shares = np.zeros((*volume.shape_zyx, 2), np.float32)
    shares[3, 10:20, 10:20, 0], shares[4, 10:20, 10:20, 0] = 1, value / most
    made = by_highdicom(images, shares, "FRACTIONAL", max_fractional_value=most)
    given = read_labelled_mask(saved(tmp_path / "m.dcm", made), volume)
    assert np.count_nonzero(given.labels_zyx[4]) == 100 * is_in


def test_ones_in_a_fractional_segmentation_are_in(tmp_path: Path) -> None:
    volume, images = scan(tmp_path / "ct")
    shares = np.zeros((*volume.shape_zyx, 2), np.float32)
    shares[3, 10:20, 10:20, 0] = 1 / 255
    given = read_labelled_mask(
        saved(tmp_path / "m.dcm", by_highdicom(images, shares, "FRACTIONAL")), volume
    )
    assert np.count_nonzero(given.labels_zyx) == 100


def test_fractions_that_say_nothing_of_a_half_are_refused(tmp_path: Path) -> None:
    volume, images = scan(tmp_path / "ct")
    shares = np.full((*volume.shape_zyx, 2), 0.3, np.float32)
    made = by_highdicom(images, shares, "FRACTIONAL")
    with pytest.raises(
        VolumeError, match=r"this one is probability, with values from 76 to 76 of 255"
    ):
        read_labelled_mask(saved(tmp_path / "m.dcm", made), volume)
    shares[3] = 1
    made = by_highdicom(images, shares, "FRACTIONAL")
    made.SegmentationFractionalType = "HEAT"
    with pytest.raises(VolumeError, match=r"this one is of no known kind"):
        read_labelled_mask(saved(tmp_path / "m.dcm", made), volume)


def test_segments_that_overlap_are_told(tmp_path: Path) -> None:
    volume, images = scan(tmp_path / "ct")
    masks = np.zeros((*volume.shape_zyx, 2), bool)
    masks[2, 10:20, 10:20, 0] = masks[2, 15:25, 10:20, 1] = True
    given = read_labelled_mask(saved(tmp_path / "m.dcm", by_highdicom(images, masks)), volume)
    assert np.bincount(given.labels_zyx.ravel())[1:].tolist() == [50, 100]
    assert "In m.dcm 50 voxels are in two segments at once" in given.notes[0]


@pytest.mark.parametrize("stored", ["yx", "Yx"])
def test_a_frame_without_a_position_goes_to_its_image(tmp_path: Path, stored: str) -> None:
    volume, images = scan(tmp_path / "ct", UNEVEN_MM, stored=stored)
    masks = np.zeros((*volume.shape_zyx, 2), bool)
    masks[2, 10:20, 10:30, 0] = masks[5, 15:25, 10:30, 1] = True
    written = by_highdicom(images, masks)
    for groups in written.PerFrameFunctionalGroupsSequence:
        del groups.PlanePositionSequence
    given = read_labelled_mask(saved(tmp_path / "m.dcm", written), volume)
    assert volume.dicom is not None
    stored_masks = volume.dicom.to_stored(given.labels_zyx)
    np.testing.assert_array_equal(stored_masks, masks[..., 0] + 2 * masks[..., 1])


def test_a_segmentation_of_other_images_is_refused(tmp_path: Path) -> None:
    volume, _ = scan(tmp_path / "ct")
    other, others = scan(tmp_path / "other")
    mask = np.ones(other.shape_zyx, np.uint8)
    path = saved(tmp_path / "m.dcm", by_highdicom(others, mask, types=(codes_of("IPH")[0],)))
    with pytest.raises(VolumeError) as error:
        read_labelled_mask(path, volume)
    assert str(error.value) == (
        "m.dcm: a DICOM-SEG refers to the images of its scan, but it refers to 9 others; "
        "give the DICOM-SEG that was drawn on this scan."
    )
    assert read_labelled_mask(path, other).labels_zyx.all()


def test_one_that_refers_to_no_image_goes_by_its_frame_of_reference(tmp_path: Path) -> None:
    volume, images = scan(tmp_path / "ct")
    mask = np.ones(volume.shape_zyx, np.uint8)
    written = by_highdicom(images, mask, types=(codes_of("IPH")[0],))
    del written.ReferencedSeriesSequence, written.SourceImageSequence
    for groups in written.PerFrameFunctionalGroupsSequence:
        del groups.DerivationImageSequence
    given = read_labelled_mask(saved(tmp_path / "m.dcm", written), volume)
    assert given.labels_zyx.all() and given.notes == ()
    written.FrameOfReferenceUID = generate_uid()
    with pytest.raises(VolumeError, match="it refers to none, in another frame of reference; "):
        read_labelled_mask(saved(tmp_path / "m.dcm", written), volume)


def test_what_is_no_whole_segmentation_is_refused(tmp_path: Path) -> None:
    volume, images = scan(tmp_path / "ct")
    path = saved(tmp_path / "ct.dcm", images[0])
    with pytest.raises(VolumeError, match=r"whole DICOM-SEG, but this is CT Image Storage; give"):
        read_labelled_mask(path, volume)
    content = segmentation_bytes(labels_of(volume.shape_zyx), volume, LESIONS)
    for share in (0.3, 0.6, 0.95):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(VolumeError):
            read_labelled_mask(path, volume)


def test_damaged_bytes_give_a_mask_or_one_sentence(tmp_path: Path) -> None:
    volume, _ = scan(tmp_path / "ct")
    content = segmentation_bytes(labels_of(volume.shape_zyx), volume, LESIONS)
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(random.integers(1, 4)):
            damaged[random.integers(132, 12_000)] = random.integers(256)
        (tmp_path / "m.dcm").write_bytes(damaged)
        try:
            read_labelled_mask(tmp_path / "m.dcm", volume)
        except VolumeError as error:
            assert "\n" not in str(error)


def test_what_dcmqi_wrote(shared_data: Path, tmp_path: Path) -> None:
    """The images' own 0 and 1 are the masks; of 23 columns, frames do not begin at a whole byte."""
    folder = shared_data / "dcmqi-seg" / "data" / "segmentations"
    for name, marks in (("23x38x3", 4), ("24x38x3", 0)):
        expected = []
        for file in sorted((folder / name / "image").iterdir()):
            image = pydicom.dcmread(file)
            pixels = image.pixel_array
            expected.append((float(image.ImagePositionPatient[2]), pixels.copy()))
            brain = np.random.default_rng(0).integers(30, 40, pixels.shape)  # so that it opens
            image.PixelData = brain.astype(pixels.dtype).tobytes()
            (tmp_path / name).mkdir(exist_ok=True)
            image.save_as(tmp_path / name / file.name)
        volume = read_volume(tmp_path / name)
        given = read_labelled_mask(folder / name / "seg" / "label.seg", volume)
        images = np.stack([pixels for _, pixels in sorted(expected, key=lambda one: one[0])])
        assert volume.dicom is not None
        wrong = volume.dicom.to_stored(given.labels_zyx) != images
        assert wrong.sum(axis=(1, 2)).tolist() == [marks] * 3  # the segmentation marks its corners
        assert wrong[:, [0, 0, -1, -1], [0, -1, 0, -1]].sum() == 3 * marks
        assert [(one.name, one.type) for one in given.lesions] == [("Liver", "unspecified")]
    abdomen = read_volume(folder / "ct-3slice")
    liver = read_labelled_mask(folder / "liver.dcm", abdomen)
    seen = highdicom.seg.segread(folder / "liver.dcm").pixel_array
    assert liver.labels_zyx.sum() == seen.sum() > 100_000
    with pytest.raises(VolumeError, match="it refers to 3 others"):
        read_labelled_mask(folder / "23x38x3" / "seg" / "label.seg", abdomen)


# --- Types -------------------------------------------------------------------------------------------


def test_every_type_is_known_by_its_codes_and_by_its_name() -> None:
    for kind in TYPES:
        code, region = codes_of(kind)
        assert type_of(code, [region], "x") == kind
        assert type_of(Code("85756007", "SCT", "Tissue"), [], TYPES[kind].title.upper()) == kind
    assert type_of(Code("50960005", "SCT", "Hemorrhage"), [], "x") == "unspecified"
    assert type_of(Code("50960005", "SCT", "Hemorrhage"), [], "IVH") == "IVH"
    assert type_of(Code("T-62000", "SRT", "Liver"), [], "Liver") is None


def test_our_file_is_still_one_that_highdicom_takes(tmp_path: Path) -> None:
    volume, _ = scan(tmp_path / "ct", UNEVEN_MM, tilt_degrees=10)
    content = segmentation_bytes(labels_of(volume.shape_zyx), volume, LESIONS)
    found = highdicom.seg.segread(io.BytesIO(content))
    assert found.segment_numbers == [1, 2]
