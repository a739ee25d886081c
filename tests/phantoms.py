"""Small scans with known answers: as values in memory, and as NIfTI and DICOM files."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import gdcm
import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    generate_uid,
)

from ichseg.scan.geometry import Geometry
from ichseg.scan.volume import CTVolume

BRAIN_HU, BLOOD_HU = 35, 65


def geometry(
    positions_mm: Sequence[float],
    spacing_yx_mm: tuple[float, float] = (0.5, 0.5),
    tilt_degrees: float = 0.0,
) -> Geometry:
    """Slices whose centres are at these table positions, the gantry tilted about the ear-to-ear axis."""
    dy, dx = spacing_yx_mm
    tilt = np.radians(tilt_degrees)
    positions = np.asarray(positions_mm, dtype=float)
    origins_mm = np.stack([0 * positions, 0 * positions, positions], axis=1)
    y_step_mm = dy * np.array([0.0, -np.cos(tilt), -np.sin(tilt)])
    return Geometry(origins_mm, y_step_mm, np.array([-dx, 0.0, 0.0]))


def scan(
    positions_mm: Sequence[float] = (0, 5, 10, 15),
    shape_yx: tuple[int, int] = (12, 16),
    spacing_yx_mm: tuple[float, float] = (0.5, 0.5),
    tilt_degrees: float = 0.0,
    hu: float = BRAIN_HU,
    notes: tuple[str, ...] = (),
) -> CTVolume:
    """A scan of one value on such slices."""
    hu_zyx = np.full((len(positions_mm), *shape_yx), hu, dtype=np.int16)
    where = geometry(positions_mm, spacing_yx_mm, tilt_degrees)
    return CTVolume(hu_zyx, where, name="phantom", notes=notes)


def ellipsoid(
    shape_zyx: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    centre_mm: tuple[float, float, float],
    radii_mm: tuple[float, float, float],
) -> npt.NDArray[np.bool_]:
    """The voxels [z, y, x] whose centres lie in an ellipsoid; millimetres from voxel (0, 0, 0)."""
    axes = (
        (np.arange(size) * step - centre) / radius
        for size, step, centre, radius in zip(
            shape_zyx, spacing_mm, centre_mm, radii_mm, strict=True
        )
    )
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return z**2 + y**2 + x**2 <= 1


HEAD_SHAPE_ZYX, HEAD_SPACING_MM = (8, 64, 64), (5.0, 3.0, 3.0)


def head_hu(
    blood_radii_mm: tuple[float, float, float] = (9.0, 18.0, 15.0),
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
    """A head of brain in air with an ellipsoid of blood, and where the blood is, both [z, y, x]."""
    hu_zyx = np.full(HEAD_SHAPE_ZYX, -1000, dtype=np.int16)
    shape, spacing = HEAD_SHAPE_ZYX, HEAD_SPACING_MM
    hu_zyx[ellipsoid(shape, spacing, (17, 96, 96), (60, 90, 75))] = BRAIN_HU
    blood = ellipsoid(shape, spacing, (17, 80, 120), blood_radii_mm)
    hu_zyx[blood] = BLOOD_HU
    return hu_zyx, blood


def save_nifti(path: Path, array_zyx: npt.NDArray[np.generic], description: str = "") -> Path:
    """Write a [z, y, x] array of the display frame as NIfTI in LPS order, as most CT converters do."""
    dz, dy, dx = HEAD_SPACING_MM
    image = nib.Nifti1Image(array_zyx.transpose(2, 1, 0), np.diag([-dx, -dy, dz, 1.0]))
    image.header["descrip"] = description.encode()
    nib.save(image, path)
    return path


# --- Scans as files, for the tests of reading ------------------------------------------------------

PATIENT = "DOE^JANE"
"""The name and number in every DICOM phantom: they must not come out of the reader anywhere."""


def speckled_head(
    shape_zyx: tuple[int, int, int] = (9, 40, 48), seed: int = 0
) -> npt.NDArray[np.int16]:
    """Air, skull and brain, off-centre and with noise, so that no turn or shift looks like another."""
    hu_zyx = np.full(shape_zyx, -1000)
    size = np.array(shape_zyx, dtype=float)
    centre, radii = tuple(size * (0.5, 0.45, 0.55)), size * (0.9, 0.4, 0.35)
    hu_zyx[ellipsoid(shape_zyx, (1, 1, 1), centre, tuple(radii * 1.15))] = 1000
    hu_zyx[ellipsoid(shape_zyx, (1, 1, 1), centre, tuple(radii))] = BRAIN_HU
    noise = np.random.default_rng(seed).integers(-15, 16, shape_zyx)
    return (hu_zyx + noise).astype(np.int16)


def store_nifti(
    path: Path,
    array_zyx: npt.NDArray[Any],
    affine: npt.ArrayLike,
    axcodes: str = "LPS",
    *,
    sform_code: int = 1,
    qform_code: int = 1,
    trailing: int = 0,
    image_class: type[nib.Nifti1Image] = nib.Nifti1Image,
) -> Path:
    """Write a [z, y, x] array of the display frame in another axis order.

    ``affine`` is that of the display frame, (x, y, z) index -> RAS+ mm; ``axcodes`` is the order of
    the file, such as "RAS" or, for a sagittally stored one, "PSR".
    """
    turn = ornt_transform(axcodes2ornt(tuple("LPS")), axcodes2ornt(tuple(axcodes)))
    array_xyz = array_zyx.transpose(2, 1, 0)
    turned = apply_orientation(array_xyz, turn)
    turned_affine = np.asarray(affine) @ inv_ornt_aff(turn, array_xyz.shape)
    image = image_class(turned.reshape(turned.shape + (1,) * trailing), turned_affine)
    image.set_sform(turned_affine, code=sform_code)
    image.set_qform(turned_affine, code=qform_code)
    nib.save(image, path)
    return path


def dicom_slices(
    hu_zyx: npt.NDArray[Any],
    positions_mm: Sequence[float],
    spacing_yx_mm: tuple[float, float] = (0.9, 0.7),
    *,
    tilt_degrees: float = 0.0,
    origin_xy_mm: tuple[float, float] = (-12.0, -20.0),
    stored: str = "yx",
    slope: float = 1.0,
    intercept: float = -1024.0,
    **elements: Any,
) -> list[Dataset]:
    """CT images of a [z, y, x] array in the display frame, with slices at these table positions.

    ``stored`` says how rows and columns run: "yx" as on screen; a capital letter is a backward
    axis, so "YX" is half a turn and "xy" is transposed. ``elements`` are set on every image.
    """
    dy, dx = spacing_yx_mm
    tilt = np.radians(tilt_degrees)
    steps = {
        "y": np.array([0.0, np.cos(tilt), -np.sin(tilt)]),  # LPS: down the screen is posterior
        "x": np.array([1.0, 0.0, 0.0]),  # and right on it is the patient's left
    }
    millimetres, lengths = {"y": dy, "x": dx}, dict(zip("zyx", hu_zyx.shape, strict=True))
    backward = [axis for axis in stored.lower() if axis.upper() in stored]
    series, study = generate_uid(), generate_uid()
    images = []
    for index, position in enumerate(positions_mm):
        origin = np.array([*origin_xy_mm, position])
        for axis in backward:
            origin = origin + steps[axis] * millimetres[axis] * (lengths[axis] - 1)
        pixels = np.flip(hu_zyx[index], ["yx".index(axis) for axis in backward])
        pixels = pixels if stored.lower() == "yx" else pixels.T
        rows, columns = (steps[axis] * (-1 if axis in backward else 1) for axis in stored.lower())
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CTImageStorage
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.SeriesNumber, image.SeriesDescription = 2, "HEAD"
        image.InstanceNumber = 1000 - 7 * index
        image.PatientName, image.PatientID = PATIENT, PATIENT
        image.StudyDate = image.StudyTime = image.PatientBirthDate = image.PatientSex = ""
        image.StudyID = image.AccessionNumber = image.Manufacturer = (
            image.ReferringPhysicianName
        ) = ""
        image.FrameOfReferenceUID, image.PositionReferenceIndicator = study, ""
        image.Modality, image.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.ImagePositionPatient = [round(float(value), 6) for value in origin]
        image.ImageOrientationPatient = [round(float(v), 9) for v in (*columns, *rows)]
        image.PixelSpacing = [millimetres[axis] for axis in stored.lower()]
        image.SliceThickness = 5.0
        image.RescaleSlope, image.RescaleIntercept = slope, intercept
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows, image.Columns = pixels.shape
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
        image.PixelRepresentation = 1
        values = np.rint((pixels - intercept) / slope).astype("<i2")
        image.PixelData = np.ascontiguousarray(values).tobytes()
        for keyword, value in elements.items():
            setattr(image, keyword, value)
        images.append(image)
    return images


def study_of_two_kernels() -> list[Dataset]:
    """A study of nine slices with the accession number A1: series 1 in a bone kernel, series 2 in a soft one."""
    study = generate_uid()
    return [
        image
        for number, (name, kernel) in enumerate([("HEAD BONE", "H60s"), ("HEAD", "H31s")], 1)
        for image in dicom_slices(
            speckled_head(),
            [5.0 * k for k in range(9)],
            StudyInstanceUID=study,
            SeriesNumber=number,
            SeriesDescription=name,
            ConvolutionKernel=kernel,
            AccessionNumber="A1",
        )
    ]


def save_dicom(folder: Path, images: Iterable[Dataset], names: Sequence[str] = ()) -> Path:
    """Write images to a folder, by default under names that are in no order of theirs."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        name = names[index] if names else f"{image.SOPInstanceUID[-12:]}.dcm"
        image.save_as(folder / name, enforce_file_format=True)
    return folder


def save_zip(path: Path, folder: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """Zip a folder."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path


def enhanced_ct(images: Sequence[Dataset]) -> Dataset:
    """The images as one enhanced multi-frame CT, its frames with a rescale and a place each."""
    multi = Dataset()
    multi.update(images[0])
    multi.file_meta = FileMetaDataset()
    multi.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    multi.file_meta.MediaStorageSOPClassUID = multi.SOPClassUID = EnhancedCTImageStorage
    multi.file_meta.MediaStorageSOPInstanceUID = multi.SOPInstanceUID
    moved = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
    for keyword in (*moved, "RescaleSlope", "RescaleIntercept"):
        delattr(multi, keyword)
    multi.NumberOfFrames = len(images)
    multi.PixelData = b"".join(image.PixelData for image in images)
    multi.SharedFunctionalGroupsSequence = DicomSequence(
        [
            _items(
                PixelMeasuresSequence=_copy(images[0], "PixelSpacing", "SliceThickness"),
                PlaneOrientationSequence=_copy(images[0], "ImageOrientationPatient"),
            )
        ]
    )
    multi.PerFrameFunctionalGroupsSequence = DicomSequence(
        _items(
            PlanePositionSequence=_copy(image, "ImagePositionPatient"),
            PixelValueTransformationSequence=_copy(image, "RescaleSlope", "RescaleIntercept"),
        )
        for image in images
    )
    return multi


def _copy(image: Dataset, *keywords: str) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        setattr(item, keyword, image[keyword].value)
    return item


def _items(**groups: Dataset) -> Dataset:
    item = Dataset()
    for keyword, value in groups.items():
        setattr(item, keyword, DicomSequence([value]))
    return item


_GDCM_SYNTAX = {
    JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
}


def compress(path: Path, syntax: str) -> None:
    """Compress a DICOM file in place, losslessly, by the encoder that GDCM has for it."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(_GDCM_SYNTAX[syntax]))
    if not reader.Read():
        raise RuntimeError(f"GDCM cannot read {path.name}")
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise RuntimeError(f"GDCM cannot encode {syntax}")
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise RuntimeError(f"GDCM cannot write {path.name}")
