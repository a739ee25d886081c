"""Scans named ``dicomweb://STUDY``: fetched from the archive for as long as a command runs, and results sent back."""

from __future__ import annotations

import atexit
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ichseg.cli.show import progress_bar
from ichseg.errors import InputError
from ichseg.files import write
from ichseg.measures.assessment import Assessment
from ichseg.scan.series_info import SeriesInfo

#: How a scan in the archive is named; a path has lost one of the two slashes behind it.
_SCHEME = "dicomweb:"


@dataclass(frozen=True)
class Place:
    """Where a scan's files are, the study of the archive that they came from, and that study's other series."""

    path: Path
    study_uid: str = ""
    others: tuple[SeriesInfo, ...] = ()

    def check_send(self, send: bool) -> None:
        """Refuse to send what did not come from the archive, before any work is done."""
        if send and not self.study_uid:
            raise InputError(
                "--send goes back to the archive that a scan came from; this scan is a file here; name it as "
                "dicomweb://STUDY, or leave --send out."
            )


def place_of(scan: Path, series: str | None) -> Place:
    """Where a scan's files are; one that is named ``dicomweb://`` is fetched, and deleted when the command ends."""
    text = scan.as_posix()
    if not text.startswith(_SCHEME):
        return Place(scan)
    # The archive's libraries are imported only when a scan lies there.
    from ichseg.archive.transfer import connect, fetch

    archive = connect()
    folder = TemporaryDirectory(prefix="ichseg-")
    atexit.register(folder.cleanup)
    with progress_bar("Fetching from the archive") as tell:
        found = fetch(
            archive, text[len(_SCHEME) :].strip("/"), Path(folder.name), series=series, tell=tell
        )
    return Place(found.folder, found.study_uid, found.others)


def send_back(place: Place, found: Assessment) -> list[str]:
    """Send what was measured to the study that the scan came from, and say so."""
    from ichseg.archive.transfer import connect, send

    return [send(connect(), place.study_uid, write.for_archive(found, place.path))]
