"""python -m tools.malformed --count 10000: damage small scans at random and see that each opens or gets one sentence.

The scans are cut from the project's own sample: NIfTI, plain and in a gzip, a .hdr/.img pair, NRRD, MetaImage, DICOM
in a folder, plain and compressed, and zips of them, each packed in another way. One file of each is damaged: bytes
flipped, a part cut off, cut out, set to 0, written twice, or random bytes put in; half of the damage lies where headers
and directories are. What comes of it must be a volume whose values are finite, or an InputError of one sentence that
names no path, within the time and memory below. Case N of a seed is always the same: ``--only N --keep FOLDER`` writes
its files for a look.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless, RLELossless
from rich.progress import track

from ichseg.errors import InputError
from ichseg.sample import sample_paths
from ichseg.scan.read import read_volume

SECONDS = 30
"""Longest that one file may take."""

MEMORY_BYTES = 4 << 30
"""How much more memory the process may come to use than it had before the first file."""

SLICES, STEP = slice(10, 16), 8
NEAR = 700
"""Bytes at both ends of a file within which half of the damage lies: headers, and a zip's directory."""

Files = dict[str, bytes]
"""A scan by its files' names; given as one file, or as the folder of several."""


@dataclass(frozen=True)
class Outcome:
    """What came of one damaged scan: "volume", "sentence", or what went wrong."""

    index: int
    kind: str
    result: str
    seconds: float
    text: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it ended as it should."""
        return self.result in ("volume", "sentence")


# --- Sound scans -----------------------------------------------------------------------------------


@cache
def _sample() -> tuple[np.ndarray, np.ndarray]:
    """A small copy of the sample, int16 [x, y, z] in RAS, and its affine."""
    image: Any = nib.load(sample_paths()[0])
    voxels = np.asarray(image.dataobj)[::STEP, ::STEP, SLICES].astype(np.int16)
    return voxels, image.affine @ np.diag([STEP, STEP, 1, 1])


def _nifti() -> bytes:
    image: Any = nib.Nifti1Image(*_sample())  # type: ignore[no-untyped-call]
    return bytes(image.to_bytes())


def _packed_nifti() -> bytes:
    import gzip

    return gzip.compress(_nifti(), mtime=0)


def _pair() -> Files:
    pair: Any = nib.Nifti1Pair(*_sample())  # type: ignore[no-untyped-call]
    files = pair.make_file_map({"header": io.BytesIO(), "image": io.BytesIO()})
    pair.to_file_map(files)
    return {
        f"scan.{end}": files[key].fileobj.getvalue()
        for end, key in (("hdr", "header"), ("img", "image"))
    }


def _itk(name: str) -> Files:
    """The sample in a format that SimpleITK writes, compressed for NRRD."""
    voxels, affine = _sample()
    image: Any = sitk.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing([float(mm) for mm in spacing])
    image.SetDirection([float(one) for one in (lps[:3, :3] / spacing).ravel()])
    image.SetOrigin([float(mm) for mm in lps[:3, 3]])
    with tempfile.TemporaryDirectory() as folder:
        sitk.WriteImage(image, str(Path(folder) / name), useCompression=name.endswith(".nrrd"))
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@cache
def _dicom(syntax: str = ExplicitVRLittleEndian) -> tuple[tuple[str, bytes], ...]:
    voxels, _ = _sample()
    files = []
    for k in range(voxels.shape[2]):
        pixels = np.ascontiguousarray(np.flip(voxels[:, :, k], (0, 1)).T)
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = CTImageStorage
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = UID(
            f"1.2.826.0.1.{k + 1}"
        )
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.826.0.2", "1.2.826.0.3"
        image.FrameOfReferenceUID, image.Modality = "1.2.826.0.4", "CT"
        image.PatientName = image.PatientID = "DOE^JANE"
        image.SeriesNumber, image.SeriesDescription = 2, "HEAD"
        image.ImageType, image.ConvolutionKernel = ["ORIGINAL", "PRIMARY", "AXIAL"], "H31s"
        image.ImagePositionPatient = [-115.2, -115.2, 5.0 * k]
        image.ImageOrientationPatient, image.PixelSpacing = [1, 0, 0, 0, 1, 0], [3.6, 3.6]
        image.SliceThickness, image.InstanceNumber = 5, k + 1
        image.RescaleSlope, image.RescaleIntercept = 1, -1024
        image.Rows, image.Columns = pixels.shape
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
        image.PixelRepresentation = 0
        image.PixelData = np.maximum(pixels.astype(int) + 1024, 0).astype("<u2").tobytes()
        if syntax != ExplicitVRLittleEndian:
            image.compress(syntax)
        content = io.BytesIO()
        image.save_as(content, enforce_file_format=True)
        files.append((f"IM{k + 1:03}.dcm", content.getvalue()))
    return tuple(files)


def _zip(files: Files, packing: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", packing) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(f"ct/{name}"), data, packing)
    return content.getvalue()


def _zip_in_zip() -> bytes:
    inner = _zip(dict(_dicom()), zipfile.ZIP_DEFLATED)
    return _zip({"series.zip": inner, "README.txt": b"a portal's export"}, zipfile.ZIP_STORED)


MAKERS: dict[str, Callable[[], Files]] = {
    "nii": lambda: {"scan.nii": _nifti()},
    "nii.gz": lambda: {"scan.nii.gz": _packed_nifti()},
    "pair": _pair,
    "nrrd": lambda: _itk("scan.nrrd"),
    "mha": lambda: _itk("scan.mha"),
    "dicom": lambda: dict(_dicom()),
    "dicom file": lambda: dict(_dicom()[:1]),
    "dicom RLE": lambda: dict(_dicom(RLELossless)),
    "dicom JPEG-LS": lambda: dict(_dicom(JPEGLSLossless)),
    "zip of nii": lambda: {"scan.zip": _zip({"scan.nii": _nifti()}, zipfile.ZIP_DEFLATED)},
    "zip of nii.gz": lambda: {
        "scan.zip": _zip({"scan.nii.gz": _packed_nifti()}, zipfile.ZIP_STORED)
    },
    "zip stored": lambda: {"scan.zip": _zip(dict(_dicom()), zipfile.ZIP_STORED)},
    "zip deflated": lambda: {"scan.zip": _zip(dict(_dicom()), zipfile.ZIP_DEFLATED)},
    "zip bzip2": lambda: {"scan.zip": _zip(dict(_dicom()), zipfile.ZIP_BZIP2)},
    "zip LZMA": lambda: {"scan.zip": _zip(dict(_dicom()), zipfile.ZIP_LZMA)},
    "zip in zip": lambda: {"study.zip": _zip_in_zip()},
}
"""What is damaged, by its name: the sound files of a scan."""


# --- Damage ----------------------------------------------------------------------------------------


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A file with 1 to 3 damages of random kinds at random places."""
    content = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at, length = _place(len(content), rng), int(rng.integers(1, 64))
        match rng.integers(0, 7):
            case 0:  # bits flipped
                content[at] ^= 1 << int(rng.integers(0, 8))
            case 1:  # bytes written over
                content[at : at + length] = rng.bytes(len(content[at : at + length]))
            case 2:  # the end cut off
                del content[max(at, 1) :]
            case 3:  # a part cut out
                del content[at : at + length]
            case 4:  # a part set to 0
                content[at : at + length] = bytes(len(content[at : at + length]))
            case 5:  # a part written twice
                content[at:at] = content[at : at + length]
            case _:  # random bytes put in
                content[at:at] = rng.bytes(length)
        if not content:
            return b"\0"
    return bytes(content)


def _place(size: int, rng: np.random.Generator) -> int:
    at = int(rng.integers(0, size))
    match rng.integers(0, 4):
        case 0:
            return min(at % NEAR, size - 1)
        case 1:
            return max(size - 1 - at % NEAR, 0)
        case _:
            return at


def make(index: int, seed: int) -> tuple[str, Files]:
    """Case ``index``: what kind of scan it is, and its files, one of them damaged."""
    rng = np.random.default_rng((seed, index))
    kind = list(MAKERS)[index % len(MAKERS)]
    files = MAKERS[kind]()
    name = list(files)[int(rng.integers(0, len(files)))]
    return kind, {**files, name: damaged(files[name], rng)}


def write(files: Files, folder: Path) -> Path:
    """Write a scan's files to a folder; what is given to be opened: the one file, or the folder of several."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / next(iter(files)) if len(files) == 1 else folder


# --- What comes of it ------------------------------------------------------------------------------


def check(index: int, seed: int, folder: Path) -> Outcome:
    """Write a case to a folder of its own and open it."""
    kind, files = make(index, seed)
    place = folder / f"case{index}"
    place.mkdir()
    given = write(files, place)
    start = time.perf_counter()
    try:
        with _limited(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            volume = read_volume(given)
        result, text = "volume", ""
        if not (np.isfinite(volume.hu_zyx).all() and (volume.slice_heights_mm > 0).all()):
            result, text = "a volume that cannot be", volume.name
    except InputError as error:
        result, text = "sentence", str(error)
        if "\n" in text or not text.endswith(".") or str(folder) in text:
            result = "no sentence"
    except Exception as error:  # whatever it is: this is what is looked for
        result, text = type(error).__name__, str(error)
    seconds = time.perf_counter() - start
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    return Outcome(index, kind, result, seconds, text)


class TookTooLong(Exception):
    """A file took longer than SECONDS."""


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TookTooLong(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _bound_memory() -> None:
    """Let the process come to MEMORY_BYTES more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _check_all(indices: range, seed: int) -> list[Outcome]:
    with tempfile.TemporaryDirectory() as folder:
        return [check(index, seed, Path(folder)) for index in indices]


def main(arguments: list[str] | None = None) -> int:
    """Run the cases, print what came of them, and end with 1 where one went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tools.malformed", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", type=int, help="one case alone")
    parser.add_argument("--keep", type=Path, help="write the files of --only to this folder")
    given = parser.parse_args(arguments)
    if given.only is not None:
        kind, files = make(given.only, given.seed)
        if given.keep:
            given.keep.mkdir(parents=True, exist_ok=True)
            write(files, given.keep)
        (outcome,) = _check_all(range(given.only, given.only + 1), given.seed)
        print(f"{kind}: {outcome.result}: {outcome.text}")
        return int(not outcome.is_good)
    portions = [range(start, min(start + 50, given.count)) for start in range(0, given.count, 50)]
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(given.jobs, initializer=_bound_memory) as pool:
        work = pool.map(partial(_check_all, seed=given.seed), portions)
        for portion in track(work, "Damaged scans", total=len(portions), console=None):
            outcomes += portion
    return report(outcomes)


def report(outcomes: list[Outcome]) -> int:
    """Print how many ended how, by kind, and each that went wrong; 1 where one did."""
    bad = [one for one in outcomes if not one.is_good]
    print(f"{'':16}{'cases':>8}{'volume':>8}{'sentence':>10}{'other':>8}{'longest':>10}")
    for kind in (*MAKERS, "all"):
        of_kind = [one for one in outcomes if kind in (one.kind, "all")]
        if not of_kind:
            continue
        counts = Counter(one.result if one.is_good else "other" for one in of_kind)
        row = "".join(
            f"{counts[key]:{width}}"
            for key, width in (("volume", 8), ("sentence", 10), ("other", 8))
        )
        longest = max(one.seconds for one in of_kind)
        print(f"{kind:16}{len(of_kind):8}{row}{longest:8.2f} s")
    for one in bad:
        print(f"case {one.index}, {one.kind}: {one.result}: {one.text[:200]}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
