"""Bad input of every kind gets one sentence: the rule, the value received, the remedy.

Each case makes its file and holds the whole sentence, so that a person who meets it was meant to.
"""

from __future__ import annotations

import gzip
import stat
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import phantoms
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    MediaStorageDirectoryStorage,
    RLELossless,
    generate_uid,
)

from ichseg.errors import BoxError, InputError, VolumeError
from ichseg.files.nifti_mask import read_mask, write_mask
from ichseg.marks.box import Box
from ichseg.scan import hounsfield, intake
from ichseg.scan import nifti as nifti_reader
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

AFFINE = np.diag([-0.7, -0.9, 5.0, 1.0])
POSITIONS_MM = [5.0 * k for k in range(9)]
FORMATS = "a scan is NIfTI (.nii, .nii.gz), NRRD, MetaImage (.mha) or DICOM (folder, zip, files)"
EXPORT = "export the CT in one of these formats"
AGAIN = "copy or download it again"
ARCHIVE = "copy it or send it from the archive again"
SERIES = "give the folder or zip of an axial head CT series"
HU = "a head CT holds Hounsfield units (air -1000, brain about 35)"
PLACE = "the affine must give every voxel its place"
HEADER = "correct the header or export the scan again"
VOLUME = "give the whole volume, not a single slice"
AXIAL = "a scan is an axial CT series of 2 slices or more"
GAP = "the gap that lost slices leave is at most 22 mm, for more hides a hematoma"
OTHER_SERIES = "send the series from the archive again, or give another of the study"
OWN_FOLDER = "a zip may hold only files inside its own folder"


def nifti(
    folder: Path, array_zyx: Any = None, name: str = "scan.nii.gz", affine: Any = None
) -> Path:
    array = phantoms.speckled_head() if array_zyx is None else array_zyx
    return phantoms.store_nifti(folder / name, array, AFFINE if affine is None else affine)


def patched(path: Path, offset: int, value: Any) -> Path:
    """Overwrite bytes of an uncompressed file."""
    data, new = bytearray(path.read_bytes()), np.asarray(value).tobytes()
    data[offset : offset + len(new)] = new
    path.write_bytes(data)
    return path


def cut(path: Path, keep: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def save_image(folder: Path, array_xyz: Any, name: str = "scan.nii", **options: Any) -> Path:
    image = nib.Nifti1Image(array_xyz, AFFINE, **options)
    nib.save(image, folder / name)
    return folder / name


def series(folder: Path, change: Callable[[list[Any]], Any] | None = None, **options: Any) -> Path:
    """A folder "ct" with 9 images 0.dcm to 8.dcm, changed before they are written."""
    images = phantoms.dicom_slices(phantoms.speckled_head(), POSITIONS_MM, **options)
    images = (change(images) or images) if change else images
    return phantoms.save_dicom(folder / "ct", images, [f"{k}.dcm" for k in range(len(images))])


def save_members(path: Path, *members: tuple[Any, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


# --- NIfTI and files that are nothing --------------------------------------------------------------


def text_file(folder: Path) -> Path:
    (folder / "notes.txt").write_text("a head CT, in words" * 40)
    return folder / "notes.txt"


def picture(folder: Path) -> Path:
    from PIL import Image

    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "slice.png")
    return folder / "slice.png"


def text_named_nifti(folder: Path) -> Path:
    (folder / "scan.nii").write_text("not a header" * 100)
    return folder / "scan.nii"


def gzip_of_text(folder: Path) -> Path:
    (folder / "scan.nii.gz").write_bytes(gzip.compress(b"not a header" * 100))
    return folder / "scan.nii.gz"


def empty_file(folder: Path) -> Path:
    (folder / "scan.nii.gz").touch()
    return folder / "scan.nii.gz"


def empty_file_of_no_kind(folder: Path) -> Path:
    (folder / "scan").touch()
    return folder / "scan"


def empty_folder(folder: Path) -> Path:
    (folder / "ct").mkdir()
    return folder / "ct"


def folder_of_other_files(folder: Path) -> Path:
    empty_folder(folder)
    for name in ("a.txt", "b.jpg", "c"):
        (folder / "ct" / name).write_text("nothing")
    return folder / "ct"


def two_nifti_files(folder: Path) -> list[Path]:
    return [nifti(folder, name="one.nii"), nifti(folder, name="two.nii")]


def with_holes(value: float) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        hu_zyx = phantoms.speckled_head().astype(np.float32)
        hu_zyx[3, 4:6, 5:10] = value
        return nifti(folder, hu_zyx)

    return make


def rgb(folder: Path) -> Path:
    colours = np.zeros((8, 8, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    return save_image(folder, colours)


def windowed(folder: Path) -> Path:
    hu_zyx = phantoms.speckled_head().astype(float)
    return nifti(folder, np.clip((hu_zyx - 30) / 70 * 255, 0, 255).astype(np.uint8))


def windowed_and_brain_extracted(folder: Path) -> Path:
    hu_zyx = phantoms.speckled_head().astype(float)
    brain = (hu_zyx > 0) & (hu_zyx < 100)
    return nifti(folder, np.where(brain, hu_zyx / 80 * 255, 0).astype(np.uint8))


def mr_like(folder: Path) -> Path:
    hu_zyx = phantoms.speckled_head()
    signal = np.where(hu_zyx < -500, 0, np.where(hu_zyx > 500, 90, 10 * hu_zyx + 200))
    return nifti(folder, np.maximum(signal, 0))


CASES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing there": (
        lambda folder: folder / "gone.nii",
        "gone.nii: a scan must exist, but nothing is there; check the path.",
    ),
    "no path at all": (
        lambda folder: [],
        "A scan needs a file or a folder, but an empty list was given;"
        " give a NIfTI file, or a DICOM folder, zip or files.",
    ),
    "text": (text_file, f"notes.txt: {FORMATS}, but this file is none of them; {EXPORT}."),
    "picture": (picture, f"slice.png: {FORMATS}, but this file is none of them; {EXPORT}."),
    "text named nifti": (
        text_named_nifti,
        f"scan.nii: {FORMATS}, but this file is none of them; {EXPORT}.",
    ),
    "gzip of text": (
        gzip_of_text,
        f"scan.nii.gz: {FORMATS}, but this file is none of them; {EXPORT}.",
    ),
    "empty file": (empty_file, f"scan.nii.gz: {FORMATS}, but this file is empty; {AGAIN}."),
    "empty file of no kind": (
        empty_file_of_no_kind,
        f"scan: {FORMATS}, but this file is empty; {AGAIN}.",
    ),
    "empty folder": (
        empty_folder,
        f"ct: a scan needs DICOM files, but there is no file in it; {SERIES}.",
    ),
    "folder of other files": (
        folder_of_other_files,
        f"ct: {FORMATS}, but none of its 3 files is one; {EXPORT}.",
    ),
    "two scans at once": (
        two_nifti_files,
        "2 files: a NIfTI scan is opened by itself, but there are 2 ('one.nii', 'two.nii');"
        " give one of them.",
    ),
    "truncated .nii": (
        lambda folder: cut(nifti(folder, name="scan.nii"), 0.5),
        "scan.nii: its header promises 34,560 bytes of voxels, but only 17,104 are there;"
        " the file is truncated, so copy or download it again.",
    ),
    "truncated in the header": (
        lambda folder: cut(nifti(folder, name="scan.nii"), 0.005),
        f"scan.nii: {FORMATS}, but this file is none of them; {EXPORT}.",
    ),
    "truncated .nii.gz": (
        lambda folder: cut(nifti(folder), 0.5),
        "scan.nii.gz: a .nii.gz must unpack whole, but it breaks off or is damaged"
        f" (Compressed file ended before the end-of-stream marker was reached); {AGAIN}.",
    ),
    "2-D": (
        lambda folder: save_image(folder, np.zeros((32, 48), np.int16)),
        f"scan.nii: a scan has at least 2 slices of 2 x 2 pixels, but this file has 32 x 48; {VOLUME}.",
    ),
    "a single slice": (
        lambda folder: nifti(folder, phantoms.speckled_head()[4:5]),
        "scan.nii.gz: a scan has at least 2 slices of 2 x 2 pixels,"
        f" but this file has 48 x 40 x 1; {VOLUME}.",
    ),
    "4-D": (
        lambda folder: save_image(folder, np.zeros((16, 16, 4, 3), np.int16)),
        "scan.nii: a scan is one 3-D volume, but this file has 4 dimensions (16 x 16 x 4 x 3);"
        " export one time point as its own file.",
    ),
    "a vector field": (
        lambda folder: save_image(folder, np.zeros((16, 16, 4, 1, 3), np.float32)),
        "scan.nii: a scan is one 3-D volume, but this file has 5 dimensions (16 x 16 x 4 x 1 x 3);"
        " export one time point as its own file.",
    ),
    "colours": (
        rgb,
        "scan.nii: a CT voxel is one grey value, but this file stores colours;"
        " export the scan itself, not a picture of it.",
    ),
    "complex": (
        lambda folder: save_image(folder, np.zeros((8, 8, 4), np.complex64)),
        "scan.nii: a CT voxel is one grey value, but this file stores complex64;"
        " export the scan itself, not a picture of it.",
    ),
    "NaN": (
        with_holes(np.nan),
        "scan.nii.gz: every voxel needs a finite number, but 10 voxels are NaN or infinite;"
        " set voxels outside the scan to -1024 and save it again.",
    ),
    "minus infinity": (
        with_holes(-np.inf),
        "scan.nii.gz: every voxel needs a finite number, but 10 voxels are NaN or infinite;"
        " set voxels outside the scan to -1024 and save it again.",
    ),
    "zero spacing": (
        lambda folder: patched(
            nifti(folder, name="scan.nii"), 280, np.array([[0, 0, 0, 9], [0, 0.9, 0, 9]], "<f4")
        ),
        f"scan.nii: {PLACE}, but the voxel spacing is 0 x 0.9 x 5 mm; {HEADER}.",
    ),
    "singular affine": (
        lambda folder: patched(
            nifti(folder, name="scan.nii"), 280, np.array([[1, 1, 0, 9], [1, 1, 0, 9]], "<f4")
        ),
        f"scan.nii: {PLACE}, but its axes are not independent (det 0); {HEADER}.",
    ),
    "NaN in the affine": (
        lambda folder: patched(nifti(folder, name="scan.nii"), 280, np.float32(np.nan)),
        f"scan.nii: {PLACE}, but it holds NaN or infinite numbers; {HEADER}.",
    ),
    "spacing in metres": (
        lambda folder: nifti(folder, affine=np.diag([-0.0007, -0.0009, 0.005, 1])),
        "scan.nii.gz: the distance between voxels is 0.01 to 100 mm,"
        " but this file says 0.0009 mm; correct its header or export the scan again.",
    ),
    "every voxel the same": (
        lambda folder: nifti(folder, np.full((9, 40, 48), -1024, np.int16)),
        f"scan.nii.gz: {HU}, but every voxel is -1024; give the scan itself, not a mask.",
    ),
    "a mask for a scan": (
        lambda folder: nifti(folder, (phantoms.speckled_head() > 500).astype(np.uint8)),
        f"scan.nii.gz: {HU}, but its values run from 0 to 1 with hardly any soft tissue among them;"
        " give a CT with its original values, not MR or a rescaled image.",
    ),
    "windowed to 0..255": (
        windowed,
        f"scan.nii.gz: {HU}, but its values run from 0 to 255, like an already windowed picture;"
        " export the CT with its original values.",
    ),
    "windowed and brain extracted": (
        windowed_and_brain_extracted,
        f"scan.nii.gz: {HU}, but its values run from 0 to 159, like an already windowed picture;"
        " export the CT with its original values.",
    ),
    "scaled to 0..1": (
        lambda folder: nifti(
            folder, np.clip((phantoms.speckled_head() - 30) / np.float32(70), 0, 1)
        ),
        f"scan.nii.gz: {HU}, but its values run from 0 to 1 with hardly any soft tissue among them;"
        " give a CT with its original values, not MR or a rescaled image.",
    ),
    "scaled to -1..1": (
        lambda folder: nifti(folder, np.tanh(phantoms.speckled_head() / np.float32(50))),
        f"scan.nii.gz: {HU}, but its values run from -1 to 1 with hardly any soft tissue among them;"
        " give a CT with its original values, not MR or a rescaled image.",
    ),
    "MR as NIfTI": (
        mr_like,
        f"scan.nii.gz: {HU}, but its values run from 0 to 700 with hardly any soft tissue among them;"
        " give a CT with its original values, not MR or a rescaled image.",
    ),
    "unsigned without its offset": (
        lambda folder: nifti(folder, (phantoms.speckled_head() + 1024).astype(np.uint16)),
        f"scan.nii.gz: {HU}, but its values run from 9 to 2039, with soft tissue near 1059;"
        " if the usual offset is missing, open it with add_offset=-1024.",
    ),
    "without its offset, but padded": (
        lambda folder: nifti(
            folder, np.pad(phantoms.speckled_head() + 1024, 3, constant_values=-2000)
        ),
        f"scan.nii.gz: {HU}, but its values run from -2000 to 2039, with soft tissue near 1059;"
        " if the usual offset is missing, open it with add_offset=-1024.",
    ),
}


# --- DICOM -----------------------------------------------------------------------------------------


def set_one(index: int, **elements: Any) -> Callable[[list[Any]], None]:
    def change(images: list[Any]) -> None:
        for keyword, value in elements.items():
            setattr(images[index], keyword, value)

    return change


def without(keyword: str) -> Callable[[list[Any]], None]:
    def change(images: list[Any]) -> None:
        for image in images:
            delattr(image, keyword)

    return change


def in_colour(images: list[Any]) -> None:
    for image in images:
        image.SamplesPerPixel, image.PhotometricInterpretation = 3, "RGB"
        image.PlanarConfiguration, image.BitsAllocated, image.BitsStored = 0, 8, 8


def each_its_own_series(images: list[Any]) -> None:
    for index, image in enumerate(images):
        image.SeriesInstanceUID = f"1.2.3.{index + 1}"


def as_video(images: list[Any]) -> None:
    images[0].compress(RLELossless)
    images[0].file_meta.TransferSyntaxUID = MPEG2MPML


def as_deflated(images: list[Any]) -> None:
    images[0].file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def cut_image(keep: float, encode: bool = False) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        file = series(folder) / "4.dcm"
        if encode:
            phantoms.compress(file, JPEG2000Lossless)
        cut(file, keep)
        return folder / "ct"

    return make


def two_versions(folder: Path) -> Path:
    series(folder)
    image = pydicom.dcmread(folder / "ct" / "4.dcm")
    image.PixelData = image.PixelData[:-2] + b"\x01\x00"
    image.save_as(folder / "ct" / "4b.dcm")
    return folder / "ct"


def perfusion(folder: Path) -> Path:
    images = []
    for time in range(5):
        one = phantoms.dicom_slices(
            phantoms.speckled_head(seed=time), POSITIONS_MM, AcquisitionNumber=time + 1
        )
        images += one
    for image in images:
        image.SeriesInstanceUID = images[0].SeriesInstanceUID
    return phantoms.save_dicom(folder / "ct", images, [f"{k:02}.dcm" for k in range(len(images))])


def other_dicom(path: Path, kind: str) -> Path:
    """A DICOM file that is no image."""
    report = pydicom.Dataset()
    report.file_meta = pydicom.dataset.FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID = kind
    report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID = generate_uid()
    report.Modality = "SR"
    report.save_as(path, enforce_file_format=True)
    return path


def dicomdir(folder: Path) -> Path:
    return other_dicom(folder / "DICOMDIR", MediaStorageDirectoryStorage)


def only_a_report(folder: Path) -> Path:
    return other_dicom(folder / "SR", "1.2.840.10008.5.1.4.1.1.88.67")


DAMAGED = "a DICOM file must be whole, but"
DICOM_CASES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated DICOM": (
        cut_image(0.6),
        f"4.dcm: {DAMAGED} its pixels break off or are damaged; {ARCHIVE}.",
    ),
    "truncated in a compressed image": (
        cut_image(0.7, encode=True),
        f"4.dcm: {DAMAGED} its pixels break off or are damaged; {ARCHIVE}.",
    ),
    "truncated in the DICOM header": (
        cut_image(0.1),
        f"4.dcm: {DAMAGED} it breaks off or is damaged; {ARCHIVE}.",
    ),
    "truncated in the file meta": (
        cut_image(0.04),
        f"4.dcm: {DAMAGED} it breaks off or is damaged; {ARCHIVE}.",
    ),
    "a single DICOM file": (
        lambda folder: series(folder) / "3.dcm",
        f"3.dcm: {AXIAL}, but in series 2 'HEAD' (1 slice) it has a single slice; {SERIES}.",
    ),
    "MR": (
        lambda folder: series(folder, Modality="MR", SeriesDescription="T2 FLAIR"),
        f"ct: {AXIAL}, but in series 2 'T2 FLAIR' (9 slices) its modality is MR, not CT; {SERIES}.",
    ),
    "only a localizer": (
        lambda folder: series(folder, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        f"ct: {AXIAL}, but in series 2 'HEAD' (9 slices) it is a localizer; {SERIES}.",
    ),
    "coronal": (
        lambda folder: series(folder, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]),
        f"ct: {AXIAL}, but in series 2 'HEAD' (9 slices) its slices are not axial; {SERIES}.",
    ),
    "colour DICOM": (
        lambda folder: series(folder, in_colour),
        f"ct: {AXIAL}, but in series 2 'HEAD' (9 slices) '0.dcm' and 8 more are images in colour;"
        f" {SERIES}.",
    ),
    "no positions": (
        lambda folder: series(folder, without("ImagePositionPatient")),
        f"ct: {AXIAL}, but in series 2 'HEAD' (9 slices) '0.dcm' and 8 more are images without"
        f" ImagePositionPatient; {SERIES}.",
    ),
    "an orientation that is none": (
        lambda folder: series(folder, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
        f"ct: {AXIAL}, but in series 2 'HEAD' (9 slices) '0.dcm' and 8 more are images whose"
        f" ImageOrientationPatient is not two perpendicular unit vectors; {SERIES}.",
    ),
    "zero pixel spacing": (
        lambda folder: series(folder, PixelSpacing=[0, 0]),
        "ct: the distance between voxels is 0.01 to 100 mm,"
        " but this file says 0 mm; correct its header or export the scan again.",
    ),
    "missing slices": (
        lambda folder: series(folder, lambda images: images[:2] + images[6:]),
        f"ct: {GAP}, but 4 slices are missing between slices 2 and 3 (25.0 mm where 5.0 mm is usual);"
        f" {OTHER_SERIES}.",
    ),
    "two passes in one series": (
        lambda folder: series(folder, set_one(5, ImagePositionPatient=[-12.0, -20.0, 20.0])),
        "ct: every slice has a place of its own,"
        " but 2 different slices lie at 20.0 mm ('4.dcm' and '5.dcm');"
        " give one pass of the scan only.",
    ),
    "two copies of one image with other pixels": (
        two_versions,
        "ct: every slice has a place of its own,"
        " but 2 different slices lie at 20.0 mm ('4.dcm' and '4b.dcm');"
        " give one pass of the scan only.",
    ),
    "a perfusion": (
        perfusion,
        f"ct: {AXIAL}, but in series 2 'HEAD' (45 slices) it has up to 5 images at one place, as a"
        f" perfusion or another time series has; {SERIES}.",
    ),
    "a DICOMDIR by itself": (
        dicomdir,
        "DICOMDIR: a DICOMDIR is a list of a CD's files, not the files, but it was given by itself;"
        " give the whole folder that it lies in.",
    ),
    "only a report": (
        only_a_report,
        f"SR: {FORMATS}, but of its DICOM files none is an image (1 structured report); {SERIES}.",
    ),
    "positions that are no numbers": (
        lambda folder: series(folder, PixelSpacing="0.7"),
        f"ct: {AXIAL}, but in series 2 'HEAD' (9 slices) '0.dcm' and 8 more are images with"
        f" PixelSpacing '0.7'; {SERIES}.",
    ),
    "a series of its own for each slice": (
        lambda folder: series(folder, each_its_own_series),
        f"ct: {AXIAL}, but in series 2 'HEAD' (1 slice) it has a single slice; {SERIES}.",
    ),
    "a syntax nobody decodes": (
        lambda folder: series(folder, as_video),
        "0.dcm: pixels are plain, RLE, JPEG, JPEG-LS or JPEG 2000,"
        " but these are MPEG2 Main Profile / Main Level; export the series uncompressed.",
    ),
    "a syntax that inflates without a limit": (
        lambda folder: series(folder, as_deflated),
        "0.dcm: pixels are plain, RLE, JPEG, JPEG-LS or JPEG 2000,"
        " but these are Deflated Explicit VR Little Endian; export the series uncompressed.",
    ),
    "DICOM without its offset": (
        lambda folder: series(folder, without("RescaleIntercept")),
        f"ct: {HU}, but its values run from 9 to 2039, with soft tissue near 1059;"
        " if the usual offset is missing, open it with add_offset=-1024.",
    ),
}


# --- Zips ------------------------------------------------------------------------------------------


def encrypted(folder: Path) -> Path:
    """A zip whose directory marks its member as encrypted (the standard library cannot write one)."""
    path = save_members(folder / "ct.zip", ("ct/1.dcm", b"secret" * 100))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    data[6] |= 1
    path.write_bytes(data)
    return path


def link(folder: Path) -> Path:
    member = zipfile.ZipInfo("ct/1.dcm")
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return save_members(folder / "ct.zip", (member, b"/etc/passwd"))


def bomb(folder: Path) -> Path:
    return save_members(folder / "ct.zip", ("ct/1.dcm", bytes(101 << 20)))


def deflate64(folder: Path) -> Path:
    """A zip whose directory says that its member is packed as Windows packs large ones."""
    path = save_members(folder / "ct.zip", ("ct/1.dcm", b"data" * 100))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 10] = data[8] = 9
    path.write_bytes(data)
    return path


def unknown_version(folder: Path) -> Path:
    path = save_members(folder / "ct.zip", ("ct/1.dcm", b"data" * 100))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 6] = 255
    path.write_bytes(data)
    return path


def nested(path: Path) -> Path:
    """A zip that holds this file alone."""
    return save_members(path.with_name(f"{path.name}.zip"), (path.name, path.read_bytes()))


def tar(folder: Path) -> Path:
    with tarfile.open(folder / "ct.tar", "w") as archive:
        archive.add(series(folder), "ct")
    return folder / "ct.tar"


def gzipped(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed


def half_a_pair(folder: Path) -> Path:
    nib.save(nib.Nifti1Pair(np.zeros((4, 4, 4), np.int16), AFFINE), folder / "scan.hdr")
    (folder / "scan.img").unlink()
    return folder / "scan.hdr"


def damaged_member(folder: Path) -> Path:
    path = phantoms.save_zip(folder / "ct.zip", series(folder))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 50] = bytes(50)
    path.write_bytes(data)
    return path


ZIP_CASES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a name with ..": (
        lambda folder: save_members(folder / "ct.zip", ("ct/../../evil.dcm", b"x")),
        f"ct.zip: {OWN_FOLDER}, but it has a name with '..'; zip the DICOM folder anew.",
    ),
    "a name with .. and backslashes": (
        lambda folder: save_members(folder / "ct.zip", ("ct\\..\\evil.dcm", b"x")),
        f"ct.zip: {OWN_FOLDER}, but it has a name with '..'; zip the DICOM folder anew.",
    ),
    "an absolute name": (
        lambda folder: save_members(folder / "ct.zip", ("/etc/evil.dcm", b"x")),
        f"ct.zip: {OWN_FOLDER}, but it has an absolute name; zip the DICOM folder anew.",
    ),
    "a name with a drive": (
        lambda folder: save_members(folder / "ct.zip", ("C:\\evil.dcm", b"x")),
        f"ct.zip: {OWN_FOLDER}, but it has an absolute name; zip the DICOM folder anew.",
    ),
    "a link": (link, f"ct.zip: {OWN_FOLDER}, but it has a link; zip the DICOM folder anew."),
    "encrypted": (
        encrypted,
        "ct.zip: a zip must open without a password, but '1.dcm' is encrypted;"
        " unpack it and zip it anew without one.",
    ),
    "a bomb": (
        bomb,
        "ct.zip: a zip may unpack to 4 GiB and 200 times its size,"
        " but this one has 101 MiB, 1,030 times; zip only the head CT series.",
    ),
    "a zip without DICOM": (
        lambda folder: save_members(folder / "ct.zip", ("a.txt", b"x"), ("b.txt", b"y")),
        f"ct.zip: {FORMATS}, but none of its 2 files is one; {EXPORT}.",
    ),
    "packed with Deflate64": (
        deflate64,
        "ct.zip: a zip is packed with Deflate, bzip2 or LZMA, or not at all,"
        " but '1.dcm' is packed with Deflate64; unpack it and zip it anew, or give the folder.",
    ),
    "a version of zip that nobody knows": (
        unknown_version,
        f"ct.zip: a zip must be whole, but its list of files is damaged; {AGAIN}.",
    ),
    "several NIfTI files": (
        lambda folder: save_members(
            folder / "ct.zip", ("a.nii", b"x" * 400), ("b.nii.gz", b"x"), ("c.nii", b"x")
        ),
        "ct.zip: a NIfTI scan is opened by itself,"
        " but there are 3 ('a.nii', 'b.nii.gz', 'c.nii'); give one of them.",
    ),
    "a zip in a zip in a zip": (
        lambda folder: nested(nested(save_members(folder / "ct.zip", ("a.dcm", b"x")))),
        f"ct.zip.zip.zip: {FORMATS}, but it holds a zip in a zip in a zip;"
        " unpack it and give the folder.",
    ),
    "a damaged zip in a zip": (
        lambda folder: save_members(folder / "ct.zip", ("inner.zip", b"PK\x03\x04" + b"x" * 99)),
        f"inner.zip: a zip must be whole, but its list of files is damaged; {AGAIN}.",
    ),
    "a tar": (
        tar,
        f"ct.tar: {FORMATS}, but this is a tar archive; unpack it and give the folder.",
    ),
    "a tar in a gzip": (
        lambda folder: gzipped(tar(folder)),
        f"ct.tar.gz: {FORMATS}, but this is a tar archive in a gzip;"
        " unpack it and give the folder.",
    ),
    "half of a pair": (
        lambda folder: half_a_pair(folder),
        "scan.hdr: a .hdr and its .img are one NIfTI or Analyze image in two files,"
        " but only 'scan.hdr' is here; give both together, or convert them to one .nii.",
    ),
    "a zip of nothing": (
        lambda folder: save_members(folder / "ct.zip"),
        f"ct.zip: a scan needs DICOM files, but there is no file in it; {SERIES}.",
    ),
    "a truncated zip": (
        lambda folder: cut(phantoms.save_zip(folder / "ct.zip", series(folder)), 0.9),
        f"ct.zip: a zip must be whole, but this one is empty, truncated or not a zip; {AGAIN}.",
    ),
    "a zip with missing slices": (
        lambda folder: phantoms.save_zip(
            folder / "ct.zip", series(folder, lambda images: images[:2] + images[6:])
        ),
        f"ct.zip: {GAP}, but 4 slices are missing between slices 2 and 3 (25.0 mm where 5.0 mm is"
        f" usual); {OTHER_SERIES}.",
    ),
}

ALL_CASES = CASES | DICOM_CASES | ZIP_CASES


@pytest.mark.filterwarnings("ignore:End of file reached:UserWarning:pydicom")
@pytest.mark.parametrize("case", ALL_CASES)
def test_bad_input_gets_its_sentence(tmp_path: Path, case: str) -> None:
    make, sentence = ALL_CASES[case]
    given = make(tmp_path)
    with pytest.raises(VolumeError) as error:
        read_volume(given)
    assert str(error.value) == sentence


@pytest.mark.parametrize("case", ALL_CASES)
def test_every_sentence_is_one_sentence(case: str) -> None:
    sentence = ALL_CASES[case][1]
    assert sentence.endswith(".")
    assert not sentence.endswith("..")
    assert "\n" not in sentence
    assert ", but " in sentence  # the rule, then what came
    assert "; " in sentence.split(", but ", 1)[1]  # then the remedy


def test_there_are_enough_cases() -> None:
    assert len(ALL_CASES) >= 25


def test_a_damaged_zip_member(tmp_path: Path) -> None:
    with pytest.raises(VolumeError) as error:
        read_volume(damaged_member(tmp_path))
    assert str(error.value).startswith("ct.zip: a zip must unpack whole, but '")
    assert str(error.value).endswith(f".dcm' is damaged; {AGAIN}.")


# --- Limits, lowered so that the files stay small --------------------------------------------------


@pytest.mark.parametrize("kind", ["nifti", "dicom", "zip"])
def test_over_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    make: dict[str, Callable[[], Path]] = {
        "nifti": lambda: nifti(tmp_path),
        "dicom": lambda: series(tmp_path),
        "zip": lambda: save_members(tmp_path / "ct.zip", ("1.dcm", b"0123456789" * 4000)),
    }
    path = make[kind]()
    monkeypatch.setattr(hounsfield, "MAX_BYTES", 20_000)
    monkeypatch.setattr(intake, "MAX_FILE_BYTES", 20_000)
    with pytest.raises(VolumeError) as error:
        read_volume(path)
    if kind == "zip":
        assert str(error.value) == (
            "ct.zip: a packed file unpacks to at most 0 MiB, but this one has 0 MiB; give '1.dcm' unzipped, or save it"
            " as int16."
        )
        return
    assert str(error.value).startswith(f"{path.name}: a scan is at most 0 MiB unpacked, but this")
    assert str(error.value).endswith("; crop it to the head or give a thicker-sliced series.")


@pytest.mark.parametrize("end", ["img", "hdr", "both"])
def test_the_bound_of_an_image_in_two_files_is_on_what_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    head = phantoms.speckled_head((9, 40, 48))
    pair = nib.Nifti1Pair(head.astype(np.float64).transpose(2, 1, 0), AFFINE)
    pair.header.set_data_dtype(np.float64)
    nib.save(pair, tmp_path / "ct.img")
    for module in (hounsfield, nifti_reader):
        monkeypatch.setattr(module, "MAX_BYTES", head.nbytes)
    monkeypatch.setattr(intake, "MAX_FILE_BYTES", head.nbytes)
    paths = [tmp_path / "ct.img", tmp_path / "ct.hdr"]
    volume = read_volume(paths if end == "both" else tmp_path / f"ct.{end}")
    np.testing.assert_array_equal(np.sort(volume.hu_zyx, axis=None), np.sort(head, axis=None))
    (tmp_path / "ct.img.gz").write_bytes(gzip.compress((tmp_path / "ct.img").read_bytes(), 1))
    (tmp_path / "ct.img").unlink()
    with pytest.raises(
        VolumeError, match=r"ct\.img\.gz: .* has more; unpack it first, or save it as int16"
    ):
        read_volume(tmp_path / "ct.hdr")


def test_over_size_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """A header that promises 3 GiB, in a file of a few bytes."""
    path = nifti(tmp_path, name="scan.nii")
    patched(path, 40, np.array([3, 1024, 1024, 1536, 1, 1, 1, 1], "<i2"))
    with pytest.raises(VolumeError) as error:
        read_volume(path)
    assert str(error.value) == (
        "scan.nii: a scan is at most 1,024 MiB unpacked, but this one has 3,072 MiB;"
        " crop it to the head or give a thicker-sliced series."
    )


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    folder = series(tmp_path)
    path = folder if kind == "folder" else phantoms.save_zip(tmp_path / "ct.zip", folder)
    monkeypatch.setattr(intake, "MAX_FILES", 5)
    with pytest.raises(VolumeError, match=rf"{path.name}: at most 5 files are read, but it holds"):
        read_volume(path)


def test_a_zip_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = phantoms.save_zip(tmp_path / "ct.zip", series(tmp_path))
    monkeypatch.setattr(intake, "MAX_ZIP_BYTES", 10_000)
    with pytest.raises(VolumeError, match=r"^ct\.zip: a zip may unpack to .* GiB .*; zip only"):
        read_volume(path)


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = nifti(tmp_path, name="scan.nii")

    def refuse(*args: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(nifti_reader, "read_nifti", refuse)
    with pytest.raises(VolumeError) as error:
        read_volume(path)
    assert str(error.value) == (
        "scan.nii: a scan must be readable, but Permission denied;"
        " check its permissions and the disk."
    )


def test_a_series_of_a_nifti_file(tmp_path: Path) -> None:
    with pytest.raises(VolumeError) as error:
        read_volume(nifti(tmp_path), series="2")
    assert str(error.value) == (
        "scan.nii.gz: only DICOM comes in series, but series '2' of a NIfTI file was asked for;"
        " leave the series out."
    )


# --- Any damage at all -----------------------------------------------------------------------------

damage = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4
)


def opens_or_is_refused(path: Path) -> None:
    """A damaged header may still say something sensible; it must not end in another error."""
    try:
        scan = read_volume(path)
    except VolumeError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(scan.slice_heights_mm).all()
        assert (scan.slice_heights_mm > 0).all()


@settings(max_examples=40, deadline=None)
@given(damage=damage)
def test_a_nifti_header_damaged_anywhere(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[float, int]]
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = nifti(folder, phantoms.speckled_head((4, 16, 20)), name="scan.nii")
    for where, value in damage:
        patched(path, int(where * 352), np.uint8(value))
    opens_or_is_refused(path)


@settings(max_examples=40, deadline=None)
@given(damage=damage)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_dicom_header_damaged_anywhere(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[float, int]]
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    hu_zyx = phantoms.speckled_head((4, 16, 20))
    phantoms.save_dicom(folder, phantoms.dicom_slices(hu_zyx, [0, 5, 10, 15]), "abcd")
    length = (folder / "b").stat().st_size - hu_zyx[0].nbytes
    for where, value in damage:
        patched(folder / "b", int(where * length), np.uint8(value))
    opens_or_is_refused(folder)


# --- Masks -----------------------------------------------------------------------------------------


@dataclass
class Scan:
    folder: Path
    scan: CTVolume


@pytest.fixture
def scan(tmp_path: Path) -> Scan:
    return Scan(tmp_path, read_volume(nifti(tmp_path)))


def test_a_mask_of_another_shape(scan: Scan) -> None:
    path = nifti(scan.folder, np.zeros((9, 40, 49), np.uint8), "mask.nii")
    with pytest.raises(VolumeError) as error:
        read_mask(path, scan.scan)
    assert str(error.value) == (
        "mask.nii: a mask lies inside the scan's 48 x 40 x 9 voxels, but a slice of 49 x 40 sticks out of them;"
        " crop it to the scan, or give the mask that was drawn on this scan."
    )


def test_a_mask_of_another_place(scan: Scan) -> None:
    moved = AFFINE.copy()
    moved[2, 3] = 12.5
    path = nifti(scan.folder, np.zeros((9, 40, 48), np.uint8), "mask.nii", moved)
    with pytest.raises(VolumeError) as error:
        read_mask(path, scan.scan)
    assert str(error.value) == (
        "mask.nii: a mask lies where the scan lies, but its voxels are up to 12.5 mm off;"
        " give the mask that was drawn on this scan, not resampled."
    )


@pytest.mark.parametrize(("value", "text"), [(0.37, "0.37"), (-1, "-1"), (256, "256")])
def test_a_mask_of_other_values(scan: Scan, value: float, text: str) -> None:
    labels = np.zeros((9, 40, 48), np.float32)
    labels[2, 3, 4] = value
    sentence = (
        f"mask.nii: a mask holds whole numbers from 0 to 255, but it has {text};"
        " give labels, 0 for background, not a scan or a probability map."
    )
    path = nifti(scan.folder, labels, "mask.nii")
    with pytest.raises(VolumeError) as error:
        read_mask(path, scan.scan)
    assert str(error.value) == sentence
    with pytest.raises(VolumeError) as error:
        write_mask(path, labels, scan.scan)
    assert str(error.value) == sentence


@pytest.mark.parametrize("name", ["mask.txt", "gone.nii"])
def test_a_mask_that_is_none(scan: Scan, name: str) -> None:
    (scan.folder / "mask.txt").write_text("blood everywhere")
    with pytest.raises(VolumeError, match=rf"^{name}: a mask is a NIfTI file, but this is "):
        read_mask(scan.folder / name, scan.scan)


def test_writing_a_mask_under_another_ending_or_shape(scan: Scan) -> None:
    with pytest.raises(VolumeError) as error:
        write_mask(scan.folder / "mask.png", np.zeros((9, 40, 48), bool), scan.scan)
    assert str(error.value) == (
        "mask.png: a mask is written as NIfTI, but the name ends in '.png';"
        " let it end in .nii or .nii.gz."
    )
    with pytest.raises(VolumeError) as error:
        write_mask(scan.folder / "mask.nii", np.zeros((48, 40, 9), bool), scan.scan)
    assert str(error.value) == (
        "mask.nii: a mask has the scan's shape (9, 40, 48), but this one has (48, 40, 9);"
        " draw it on this scan."
    )


# --- Boxes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,4,5", "", "a,b,c,d", "1 2 3 4"])
def test_a_box_of_other_than_four_numbers(text: str) -> None:
    with pytest.raises(BoxError) as error:
        Box.parse(text)
    assert f"'{text}'" in str(error.value)
    assert "four numbers x0,y0,x1,y1" in str(error.value)


@pytest.mark.parametrize(
    ("box", "rule"),
    [
        pytest.param("50,10,60,20", "lies on its slice, 48 columns by 40 rows", id="outside right"),
        pytest.param("10,45,20,60", "lies on its slice, 48 columns by 40 rows", id="outside below"),
        pytest.param("-9,-9,-1,-1", "lies on its slice, 48 columns by 40 rows", id="outside above"),
        pytest.param("20,10,10,20", "x0 < x1, y0 < y1", id="reversed in x"),
        pytest.param("10,20,20,10", "x0 < x1, y0 < y1", id="reversed in y"),
        pytest.param("10,10,10,20", "x0 < x1, y0 < y1", id="empty"),
        pytest.param("nan,10,20,20", "four finite numbers", id="NaN"),
        pytest.param("0,10,inf,20", "four finite numbers", id="infinite"),
    ],
)
def test_a_box_that_is_not_on_the_slice(box: str, rule: str) -> None:
    with pytest.raises(BoxError) as error:
        Box.parse(box).validate((40, 48))
    assert rule in str(error.value)
    assert box.replace(",", ", ") in str(error.value)
    assert str(error.value).endswith(".")


def test_bad_input_is_one_family() -> None:
    assert issubclass(VolumeError, InputError)
    assert issubclass(BoxError, InputError)
    assert issubclass(InputError, ValueError)
