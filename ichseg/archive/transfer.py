"""What is fetched from the archive, and what is sent back to it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pydicom
from pydicom.uid import ExplicitVRLittleEndian

from ichseg.archive.client import Archive, Result, first, is_uid
from ichseg.archive.settings import settings
from ichseg.errors import InputError
from ichseg.scan.dicom import choose_series
from ichseg.scan.dicom_files import HEADER_TAGS
from ichseg.scan.series_info import SeriesInfo

#: Of one study, of which headers are read, and of one series.
MAX_IMAGES = 5000

#: What the folder of fetched images is called: messages name it.
FOLDER = "archive"

#: What a person may give: a UID has 64 signs at most, an accession number 16.
_MOST_SIGNS = 64
_WILD = set("*?\\")

Tell = Callable[[float], None]


@dataclass(frozen=True)
class Fetched:
    """A series that lies in a folder: its study, which of the folder's series it is, and the study's other ones."""

    folder: Path
    study_uid: str
    series: SeriesInfo
    others: tuple[SeriesInfo, ...] = ()


def connect() -> Archive:
    """The archive that the environment names."""
    return Archive(settings())


def find_study(archive: Archive, wanted: str) -> str:
    """The UID of the study that a person means, by its own UID or its accession number.

    Raises InputError: neither, no such study, or an accession number of several.
    """
    wanted = wanted.strip()
    if not wanted or len(wanted) > _MOST_SIGNS or not wanted.isprintable() or _WILD & set(wanted):
        raise InputError(
            "A study is asked for by its UID or its accession number, up to 64 printable signs without *, ? and \\; "
            "what was given is neither; copy it from the archive."
        )
    found = archive.studies("StudyInstanceUID", wanted) if is_uid(wanted) else []
    found = found or archive.studies("AccessionNumber", wanted)
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            "A study is one that the archive has; it has none of this UID or accession number; check it."
        )
    raise InputError(
        f"An accession number names one study; the archive has {len(found)} of this one; give the study's UID."
    )


def fetch(
    archive: Archive,
    wanted: str,
    folder: Path,
    *,
    series: str | None = None,
    tell: Tell = lambda share: None,
) -> Fetched:
    """Fetch the series of a study that fits best, or the one asked for, into a new folder within ``folder``.

    Which fits is decided by the headers of the study's CT series, by the rule that also chooses among files
    (``scan.dicom.choose_series``); the images of that series alone are fetched then, as they are stored.

    Args:
        archive: where to ask.
        wanted: the study's UID or its accession number.
        folder: one that is the caller's own, and goes when the scan is no longer needed.
        series: the key or the number of a series; None for the best.
        tell: is told the share that is done, 0 to 1.

    Raises:
        InputError: as ``find_study`` and ``Archive``; a study without CT, or with too many images.
        SeriesError: no series fits, with each and why.

    """
    study_uid = find_study(archive, wanted)
    tell(0.05)
    with TemporaryDirectory(dir=folder) as place:
        headers = Path(place, FOLDER)
        headers.mkdir()
        _fetch_headers(archive, study_uid, headers, tell)
        chosen, others = choose_series(headers, series)
    series_uid = chosen.key.partition(":")[0]
    into = folder / FOLDER
    into.mkdir()
    expected = max(chosen.slices, 1)
    count = 0
    for count, image in enumerate(archive.images(study_uid, series_uid), 1):
        if count > MAX_IMAGES:
            raise _too_many()
        with pydicom.config.disable_value_validation():  # a warning would quote what it finds
            image.save_as(into / f"{count:05d}.dcm", enforce_file_format=True)
        tell(min(0.3 + 0.7 * count / expected, 1.0))
    if not count:
        raise InputError("A series has images; the archive sent none of it; ask who runs it.")
    return Fetched(into, study_uid, chosen, others)


def send(archive: Archive, study_uid: str, files: Sequence[bytes]) -> str:
    """Send DICOM files to their study; returns a sentence on what the archive then has, by its own query.

    Raises InputError: they are of another study, or the archive refuses them.
    """
    made = [pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True) for content in files]
    if any(one.StudyInstanceUID != study_uid for one in made):
        raise InputError(
            "What is sent to the archive is of the study that was fetched; this is of another; fetch its own study."
        )
    archive.store(study_uid, files)
    names = " and ".join(str(one.Modality) for one in made)
    listed = all(archive.has(study_uid, str(one.SOPInstanceUID)) for one in made)
    end = "and has them by its own query" if listed else "but does not list them yet"
    return f"The archive took {names}, {end}."


def _fetch_headers(archive: Archive, study_uid: str, folder: Path, tell: Tell) -> None:
    """Write the headers of a study's CT images as files without pixels, with the elements that a reader looks at."""
    found = archive.series(study_uid)
    wanted = [one for one in found if first(one, "Modality") == "CT"]
    if not wanted:
        kinds = ", ".join(sorted({first(one, "Modality") or "unknown" for one in found})) or "none"
        raise InputError(
            f"A study has a CT series; this one's are of other modalities ({kinds}); name another study."
        )
    count = 0
    for number, one in enumerate(wanted, 1):
        series_uid = first(one, "SeriesInstanceUID")
        if not is_uid(series_uid):
            continue
        for header in archive.headers(study_uid, series_uid):
            count += 1
            if count > MAX_IMAGES:
                raise _too_many()
            _save_header(header, folder / f"{count:05d}.dcm")
        tell(0.05 + 0.25 * number / len(wanted))


def _save_header(header: Result, path: Path) -> None:
    tags = {f"{pydicom.datadict.tag_for_keyword(keyword):08X}" for keyword in HEADER_TAGS}
    with pydicom.config.disable_value_validation():
        image = pydicom.Dataset.from_json({tag: header[tag] for tag in tags & set(header)})
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.save_as(path, enforce_file_format=True)


def _too_many() -> InputError:
    return InputError(
        f"Up to {MAX_IMAGES} CT images of a study are looked at; this one has more; export the series that is wanted."
    )
