"""NRRD and MetaImage: scans read, masks written and read, held against SimpleITK's own reading."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import phantoms
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from ichseg import NOTICE
from ichseg.errors import VolumeError
from ichseg.files.mask import read_labelled_mask
from ichseg.files.write import save_mask
from ichseg.marks.lesion import TYPES, Lesion
from ichseg.measures.volume import volume_ml
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

ENDINGS = (".seg.nrrd", ".nrrd", ".mha")
EVEN_MM = [-20.123456789 + 5.1 * k for k in range(9)]
LESIONS = (
    Lesion(1, "Lésion \\ | ~ ^ : «1»", "IPH", "#123456"),
    Lesion(2, type="IVH"),
    Lesion(9, "Rim", "oedema"),
)
Labels = npt.NDArray[np.uint8]


def labels_of(volume: CTVolume) -> Labels:
    labels = np.zeros(volume.shape_zyx, np.uint8)
    part = labels[1:-1, 2:-3, 4:-2]
    part[:] = np.random.default_rng(0).choice([0, 0, 1, 2, 9], part.shape)
    return labels


def image_of(
    array: npt.NDArray[Any],
    spacing: tuple[float, ...] = (0.7, 0.9, 5.0),
    origin: tuple[float, ...] = (-12.3, -20.1, -1 / 3),
    direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
    **fields: str,
) -> sitk.Image:
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection([float(one) for one in direction])
    for key, text in fields.items():
        image.SetMetaData(key, text)
    return image


def saved(path: Path, image: sitk.Image, compressed: bool = True) -> Path:
    sitk.WriteImage(image, str(path), compressed)
    return path


def same_grid(one: sitk.Image, other: sitk.Image) -> bool:
    """Whether ITK takes two images together: it refuses a difference of a millionth of a voxel."""
    np.testing.assert_allclose(one.GetOrigin(), other.GetOrigin(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(one.GetSpacing(), other.GetSpacing(), rtol=1e-9)
    np.testing.assert_allclose(one.GetDirection(), other.GetDirection(), atol=1e-9)
    return sitk.Mask(sitk.Cast(one, sitk.sitkFloat32), other).GetSize() == one.GetSize()


# --- Scans -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_a_scan(tmp_path: Path, ending: str, compressed: bool, dtype: Any) -> None:
    hu = phantoms.speckled_head().astype(dtype)
    volume = read_volume(saved(tmp_path / f"ct{ending}", image_of(hu), compressed))
    np.testing.assert_array_equal(volume.hu_zyx, hu)
    assert volume.spacing_mm == pytest.approx((5.0, 0.9, 0.7))
    np.testing.assert_allclose(volume.geometry.origins_mm[0], [12.3, 20.1, -1 / 3])
    assert (volume.name, volume.notes, volume.warnings) == ("ct", (), ())


@settings(max_examples=25, deadline=None)
@given(
    st.permutations(range(3)), st.tuples(*[st.booleans()] * 3), st.sampled_from([".nrrd", ".mha"])
)
def test_a_scan_in_any_order_of_its_axes(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], flips: tuple[bool, ...], ending: str
) -> None:
    """PermuteAxes and Flip of ITK move the voxels and keep their places."""
    folder = tmp_path_factory.mktemp("axes")
    hu = phantoms.speckled_head((9, 20, 24))
    image = sitk.Flip(sitk.PermuteAxes(image_of(hu), order), list(flips))
    volume = read_volume(saved(folder / f"ct{ending}", image))
    np.testing.assert_array_equal(volume.hu_zyx, hu)
    np.testing.assert_allclose(volume.geometry.origins_mm[0], [12.3, 20.1, -1 / 3], atol=1e-9)
    labels = labels_of(volume)
    for kind in ENDINGS:
        save_mask(folder / f"m{kind}", labels, volume, LESIONS)
        mask = sitk.ReadImage(str(folder / f"m{kind}"))
        assert same_grid(image, mask)
        back = sitk.DICOMOrient(mask, "LPS")
        np.testing.assert_array_equal(sitk.GetArrayFromImage(back), labels)
        np.testing.assert_array_equal(
            read_labelled_mask(folder / f"m{kind}", volume).labels_zyx, labels
        )


def test_a_scan_in_ras_as_text_says(tmp_path: Path) -> None:
    """Written by hand, as the format's definition has it, and without ITK."""
    hu = phantoms.speckled_head()
    header = (
        "NRRD0005\n# a comment\ntype: short\ndimension: 3\nspace: right-anterior-superior\n"
        "sizes: 48 40 9\nspace directions: (-0.7,0,0) (0,-0.9,0) (0,0,5)\nendian: little\n"
        "encoding: gzip\nspace origin: (12.3,20.1,-1.5)\nsome key:=some value\n\n"
    )
    (tmp_path / "ct.nrrd").write_bytes(header.encode() + gzip.compress(hu.astype("<i2").tobytes()))
    volume = read_volume(tmp_path / "ct.nrrd")
    np.testing.assert_array_equal(volume.hu_zyx, hu)
    np.testing.assert_allclose(volume.geometry.origins_mm[0], [12.3, 20.1, -1.5])
    np.testing.assert_allclose(volume.geometry.x_step_mm, [-0.7, 0, 0])


def test_without_a_space_nobody_knows_the_sides(tmp_path: Path) -> None:
    hu = phantoms.speckled_head()
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 48 40 9\nspacings: 0.7 0.9 5\n"
    header += "endian: little\nencoding: raw\n\n"
    (tmp_path / "ct.nrrd").write_bytes(header.encode() + hu.astype("<i2").tobytes())
    volume = read_volume(tmp_path / "ct.nrrd")
    assert (
        "The file does not say which side is which: left and right may be swapped." in volume.notes
    )
    assert volume.spacing_mm == pytest.approx((5.0, 0.9, 0.7))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "ct.nhdr",
            "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: ct.raw\n\n",
        ),
        (
            "ct.nrrd",
            "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nencoding: raw\nDATAFILE: /etc/passwd\n\n",
        ),
        (
            "ct.nrrd",
            "NRRD0004\r\ntype: short\r\ndimension: 3\r\nsizes: 2 2 2\r\ndata file: LIST\r\n/etc/passwd\r\n\r\n",
        ),
        ("ct.mhd", "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementDataFile = ct.raw\n"),
        ("ct.mha", "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementDataFile=/etc/passwd\n"),
        ("ct.mha", "NDims = 3\nDimSize = 2 2 2\nElementDataFile = LIST\n/etc/passwd\n"),
        ("ct.mha", "NDims = 3\nElementDataFile: /etc/passwd\nElementDataFile = LOCAL\n"),
        ("ct.mha", "NDims = 3\nComment = ElementDataFile = LOCAL\nElementDataFile = a\n"),
        ("ct.mha", "NDims = 3\nComment = a\rElementDataFile = LOCAL\nElementDataFile = a\n"),
        ("ct.nrrd", "NRRD0004\ntype: short\rdata file: a\n\n"),
    ],
)
def test_a_detached_header_is_told_what_to_give(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, newline="")
    with pytest.raises(VolumeError) as error:
        read_volume(tmp_path / name)
    assert str(error.value) == (
        f"{name}: a scan or a mask is one file with its voxels in it, but this is a header whose voxels are in another "
        "file; save it again as one .nrrd or .mha file."
    )


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_what_is_no_scan_is_refused_in_one_sentence(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"ct{ending}"
    hu = phantoms.speckled_head()
    colours = np.stack([hu, hu, hu], axis=-1)
    for image, text in (
        (image_of(colours), "a CT voxel is one grey value, but this file has 3 a voxel"),
        (sitk.GetImageFromArray(hu[0]), "this file has 48 x 40"),
        (image_of(hu[:1]), "this file has 48 x 40 x 1"),
        (image_of(hu.astype(np.float64) * 1e4), "hardly any soft tissue"),
    ):
        with pytest.raises(VolumeError, match=text):
            read_volume(saved(path, image))
    content = saved(path, image_of(hu), compressed=False).read_bytes()
    path.write_bytes(content[:-1000])
    with pytest.raises(VolumeError, match="this one is damaged or cannot be read; save it again"):
        read_volume(path)
    path.write_bytes(b"not an image")
    with pytest.raises(VolumeError, match=rf"a file named {ending} is NRRD or MetaImage, but this"):
        read_volume(path)
    with pytest.raises(VolumeError, match="a NIfTI, NRRD or MetaImage scan is opened by itself"):
        read_volume([path, path])


@pytest.mark.parametrize("ending", [".seg.nrrd", ".mha"])
def test_damaged_bytes_give_a_mask_or_one_sentence(tmp_path: Path, ending: str) -> None:
    volume = read_volume(saved(tmp_path / "ct.nrrd", image_of(phantoms.speckled_head())))
    save_mask(tmp_path / f"m{ending}", labels_of(volume), volume, LESIONS)
    content = (tmp_path / f"m{ending}").read_bytes()
    random = np.random.default_rng(0)
    for number in range(60):
        damaged = bytearray(content)
        for _ in range(random.integers(1, 4)):
            damaged[random.integers(0, 3000)] = random.integers(256)
        if number % 5 == 0:
            damaged = damaged[: random.integers(1, len(damaged))]
        (tmp_path / f"d{ending}").write_bytes(damaged)
        try:
            read_labelled_mask(tmp_path / f"d{ending}", volume)
        except VolumeError as error:
            assert "\n" not in str(error)


# --- Masks that we write -----------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("stored", ["yx", "YX", "xY"])
@pytest.mark.parametrize("tilt", [0.0, 18.5])
def test_a_mask_of_a_dicom_series_lies_exactly_beside_it(
    tmp_path: Path, ending: str, stored: str, tilt: float
) -> None:
    images = phantoms.dicom_slices(
        phantoms.speckled_head(),
        EVEN_MM,
        (0.451234567, 0.488281),
        tilt_degrees=tilt,
        stored=stored,
        origin_xy_mm=(-114.333333, -97.123457),
    )
    volume = read_volume(phantoms.save_dicom(tmp_path / "ct", images))
    labels, path = labels_of(volume), tmp_path / f"m{ending}"
    save_mask(path, labels, volume, LESIONS, method="threshold", made="0123456789ab")
    given = read_labelled_mask(path, volume)
    np.testing.assert_array_equal(given.labels_zyx, labels)
    assert given.lesions == LESIONS
    assert (given.scan_sha256, given.method) == (volume.sha256, "threshold")
    assert (given.identity, given.notes) == ("0123456789ab", ())
    assert phantoms.PATIENT.encode() not in path.read_bytes()
    if tilt:
        return  # ITK's own reading of a tilted series leaves the tilt out
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    series, mask = reader.Execute(), sitk.ReadImage(str(path))
    assert same_grid(series, mask)
    inside = sitk.LabelIntensityStatisticsImageFilter()
    inside.Execute(mask, series)
    for lesion in LESIONS:
        assert inside.GetMean(lesion.id) == pytest.approx(
            volume.hu_zyx[labels == lesion.id].mean(dtype=float)
        )


def test_nifti_is_as_near_as_its_numbers_allow(tmp_path: Path) -> None:
    """NIfTI has float32: beyond ITK's millionth of a voxel, within what ITK-SNAP and 3D Slicer take (1e-4, 1e-3 mm)."""
    images = phantoms.dicom_slices(
        phantoms.speckled_head(),
        EVEN_MM,
        (0.451234567, 0.488281),
        origin_xy_mm=(-114.333333, -97.123457),
    )
    volume = read_volume(phantoms.save_dicom(tmp_path / "ct", images))
    save_mask(tmp_path / "m.nii.gz", labels_of(volume), volume)
    mask = sitk.ReadImage(str(tmp_path / "m.nii.gz"))
    origin = volume.geometry.origins_mm[0] * (-1, -1, 1)
    np.testing.assert_array_equal(
        np.abs(mask.GetOrigin()).astype(np.float32), np.abs(origin).astype(np.float32)
    )
    size = np.array(mask.GetSize()) - 1
    far = np.array(mask.TransformIndexToPhysicalPoint(size.tolist()))
    expected = (
        volume.geometry.origins_mm[-1]
        + volume.geometry.y_step_mm * size[1]
        + volume.geometry.x_step_mm * size[0]
    ) * (-1, -1, 1)
    np.testing.assert_allclose(far, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(mask.GetDirection(), np.eye(3).ravel(), atol=1e-7)


@pytest.mark.parametrize("axcodes", ["LPS", "RAS", "PSR", "IAL"])
def test_a_mask_of_a_nifti_scan_lies_beside_it(tmp_path: Path, axcodes: str) -> None:
    affine = np.array([[-0.45, 0, 0, 11.1], [0, -0.6, 0, 13.3], [0, 0, 5, -20.7], [0, 0, 0, 1]])
    path = phantoms.store_nifti(tmp_path / "ct.nii.gz", phantoms.speckled_head(), affine, axcodes)
    volume = read_volume(path)
    save_mask(tmp_path / "m.seg.nrrd", labels_of(volume), volume, LESIONS)
    assert same_grid(sitk.ReadImage(str(path)), sitk.ReadImage(str(tmp_path / "m.seg.nrrd")))
    given = read_labelled_mask(tmp_path / "m.seg.nrrd", volume)
    np.testing.assert_array_equal(given.labels_zyx, labels_of(volume))


def test_3d_slicer_finds_names_colours_and_types(tmp_path: Path) -> None:
    volume = read_volume(saved(tmp_path / "ct.nrrd", image_of(phantoms.speckled_head())))
    labels = labels_of(volume)
    save_mask(tmp_path / "m.seg.nrrd", labels, volume, LESIONS, method="threshold")
    image = sitk.ReadImage(str(tmp_path / "m.seg.nrrd"))
    fields = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    assert fields["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"
    assert fields["Segment0_Name"] == LESIONS[0].name
    assert [fields[f"Segment{n}_LabelValue"] for n in range(3)] == ["1", "2", "9"]
    assert {fields[f"Segment{n}_Layer"] for n in range(3)} == {"0"}
    assert fields["Segment0_Color"] == "0.0705882 0.203922 0.337255"
    low = [int(axis.min()) for axis in np.nonzero((labels == 1).transpose(2, 1, 0))]
    assert [int(n) for n in fields["Segment0_Extent"].split()][::2] == low
    assert fields["Segment1_Tags"] == (
        "Segmentation.Status:inprogress|TerminologyEntry:Segmentation category and type - DICOM master list"
        "~SCT^49755003^Morphologically Abnormal Structure~SCT^50960005^Hemorrhage~^^"
        "~Anatomic codes - DICOM master list~SCT^35764002^Brain ventricle~^^|"
    )
    assert fields["ichseg_scan_sha256"] == volume.sha256
    assert fields["ichseg_method"] == "threshold"
    assert fields["ichseg_notice"] == NOTICE


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_type_comes_back_of_as_many_lesions_as_there_can_be(
    tmp_path: Path, ending: str
) -> None:
    volume = phantoms.scan()
    labels = np.resize(np.arange(256), volume.shape_zyx).astype(np.uint8)
    kinds = list(TYPES)
    lesions = tuple(Lesion(n, f"{n} " + "é" * 30, kinds[n % len(kinds)]) for n in range(1, 256))
    save_mask(tmp_path / f"m{ending}", labels, volume, lesions)
    given = read_labelled_mask(tmp_path / f"m{ending}", volume)
    np.testing.assert_array_equal(given.labels_zyx, labels)
    assert (given.lesions, given.notes) == (lesions, ())


def test_a_mask_of_another_scan_is_refused(tmp_path: Path) -> None:
    volume = read_volume(saved(tmp_path / "ct.nrrd", image_of(phantoms.speckled_head())))
    other = read_volume(saved(tmp_path / "o.nrrd", image_of(phantoms.speckled_head(seed=1))))
    for ending in ENDINGS:
        save_mask(tmp_path / f"m{ending}", labels_of(other), other, LESIONS)
        with pytest.raises(VolumeError, match="a mask belongs to the scan that it was made on"):
            read_labelled_mask(tmp_path / f"m{ending}", volume)


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_uneven_series_is_refused(tmp_path: Path, ending: str) -> None:
    volume = phantoms.scan([0, 4, 8, 15])
    with pytest.raises(VolumeError, match="holds evenly spaced slices only"):
        save_mask(tmp_path / f"m{ending}", np.ones(volume.shape_zyx), volume)


# --- Masks of 3D Slicer ------------------------------------------------------------------------------


@pytest.fixture
def scan(tmp_path: Path) -> CTVolume:
    return read_volume(saved(tmp_path / "ct.nrrd", image_of(phantoms.speckled_head())))


def segment(n: int, name: str, value: int, layer: int = 0, code: str = "") -> dict[str, str]:
    entry = f"a~SCT^85756007^Tissue~{code}~^^~b~^^~^^"
    fields = {"ID": f"Segment_{n}", "Name": name, "LabelValue": str(value), "Layer": str(layer)}
    fields |= {"Color": "0.0705882 0.203922 0.337255", "Extent": "0 1 0 1 0 1"}
    fields["Tags"] = f"Segmentation.Status:inprogress|TerminologyEntry:{entry}|"
    return {f"Segment{n}_{key}": text for key, text in fields.items()}


def test_slicer_crops_to_the_segments(tmp_path: Path, scan: CTVolume) -> None:
    labels = np.zeros((3, 10, 12), np.uint8)
    labels[1, 3:6, 4:9], labels[2, 2:4, 4:9] = 1, 2
    origin = (-12.3 + 20 * 0.7, -20.1 + 15 * 0.9, -1 / 3 + 4 * 5.0)
    fields = segment(0, "Bleed", 1, code="SCT^274100004^Cerebral hemorrhage")
    fields |= segment(1, "Skull", 2, code="SCT^89546000^Bone")
    fields["Segmentation_ReferenceImageExtentOffset"] = "20 15 4"
    path = saved(tmp_path / "Segmentation.seg.nrrd", image_of(labels, origin=origin, **fields))
    given = read_labelled_mask(path, scan)
    expected = np.zeros(scan.shape_zyx, np.uint8)
    expected[4:7, 15:25, 20:32] = labels
    np.testing.assert_array_equal(given.labels_zyx, expected)
    assert given.lesions == (
        Lesion(1, "Bleed", "IPH", "#123456"),
        Lesion(2, "Skull", "unspecified", "#123456"),
    )
    assert "which kind of lesion 'Skull' is" in given.notes[0]
    assert "Nothing in Segmentation.seg.nrrd says which scan" in given.notes[1]


@pytest.mark.parametrize("kind", ["vector", "list"])
def test_slicer_with_several_layers(tmp_path: Path, scan: CTVolume, kind: str) -> None:
    layers = np.zeros((9, 40, 48, 2), np.uint8)
    layers[2, 10:20, 10:20, 0], layers[4, 10:20, 10:20, 0] = 1, 2
    layers[2, 15:25, 10:20, 1] = 1
    fields = segment(0, "IPH", 1) | segment(1, "SDH", 2) | segment(2, "IVH", 1, layer=1)
    path = saved(tmp_path / "m.seg.nrrd", image_of(layers, **fields))
    path.write_bytes(path.read_bytes().replace(b"kinds: vector", f"kinds: {kind}".encode(), 1))
    given = read_labelled_mask(path, scan)
    assert np.bincount(given.labels_zyx.ravel())[1:].tolist() == [50, 100, 100]
    assert [(one.id, one.type) for one in given.lesions] == [(1, "IPH"), (2, "SDH"), (3, "IVH")]
    assert "50 voxels are in two segments at once" in given.notes[0]


def test_old_slicer_gave_each_segment_a_layer(tmp_path: Path, scan: CTVolume) -> None:
    layers = np.zeros((9, 40, 48, 2), np.uint8)
    layers[2, 10:20, 10:20, 0] = layers[3, 10:20, 10:20, 1] = 1
    fields = {"Segment0_Name": "IPH", "Segment1_Name": "IVH"}
    path = saved(tmp_path / "m.seg.nrrd", image_of(layers, **fields))
    given = read_labelled_mask(path, scan)
    assert (given.labels_zyx[2, 15, 15], given.labels_zyx[3, 15, 15]) == (1, 2)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "2 values a voxel and no description"),
        (segment(0, "a", 1), "voxels have a value of none"),
        (segment(0, "a", 1) | segment(1, "b", 1), "a value from 1 to 255 of its own"),
        (segment(0, "a", 1, layer=5), "a value from 1 to 255 of its own"),
        (segment(0, "a", 1) | {"Segment0_Layer": "x"}, "layer and value are numbers"),
    ],
)
def test_what_says_too_little_is_refused(
    tmp_path: Path, scan: CTVolume, fields: dict[str, str], text: str
) -> None:
    layers = np.zeros((9, 40, 48, 2), np.uint8)
    layers[2, 10:20, 10:20, 0] = layers[3, 10:20, 10:20, 1] = 1
    path = saved(tmp_path / "m.seg.nrrd", image_of(layers, **fields))
    with pytest.raises(VolumeError, match=text):
        read_labelled_mask(path, scan)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_plain_labelmap(tmp_path: Path, scan: CTVolume, ending: str) -> None:
    labels = labels_of(scan)
    path = saved(tmp_path / f"m{ending}", image_of(labels.astype(np.float32)))
    given = read_labelled_mask(path, scan)
    np.testing.assert_array_equal(given.labels_zyx, labels)
    assert given.lesions == ()
    assert volume_ml(given.labels_zyx == 1, scan) > 0
    moved = image_of(labels, origin=(0.0, 0.0, 0.0))
    with pytest.raises(VolumeError, match="a mask lies where the scan lies"):
        read_labelled_mask(saved(path, moved), scan)
    half = labels.astype(np.float32) * 0.5
    with pytest.raises(VolumeError, match="whole numbers from 0 to 255"):
        read_labelled_mask(saved(path, image_of(half)), scan)
