"""The one place that talks to the archive: DICOMweb queries (QIDO-RS), retrieval (WADO-RS) and storage (STOW-RS).

Every wait has a limit, every answer a size, and every failure becomes one sentence without an address, a UID or a
name. Redirects are not followed: they would carry credentials and images elsewhere. While the archive is asked nothing
is logged by the libraries, whose records have UIDs and accession numbers in them.
"""

from __future__ import annotations

import io
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pydicom

from ichseg.archive.settings import PASSWORD, TOKEN, URL, USER, Settings
from ichseg.errors import InputError, check_cancelled

#: For a connection, and for the next part of an answer.
WAITS_SECONDS = (10.0, 60.0)
#: For one answer from its beginning to its end.
ANSWER_SECONDS = 600.0
#: Of one answer, in bytes; as much as an upload may have.
MAX_BYTES = 1 << 30
#: Of one answer, as it is taken from the line.
_PIECE_BYTES = 1 << 20

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_AS_STORED = (("application/dicom", "*"),)

Result = Mapping[str, Any]
"""A data set in DICOM's JSON."""


def is_uid(text: str) -> bool:
    """Whether a text can be a UID: digits and points, 64 at most.

    >>> is_uid("1.2.840.10008"), is_uid("A123"), is_uid("1.2/../3"), is_uid("1234")
    (True, False, False, False)
    """
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def first(result: Result, keyword: str) -> str:
    """The first value of an element of a data set in JSON, as text; empty for none.

    >>> first({"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}, "StudyInstanceUID")
    '1.2.3'
    """
    tag = pydicom.datadict.tag_for_keyword(keyword)
    element = result.get(f"{tag:08X}")
    values = element.get("Value") if isinstance(element, Mapping) else None
    return str(values[0]).strip() if isinstance(values, list) and values else ""


class Archive:
    """A DICOMweb service. Every method raises InputError, in one sentence, where it does not answer as it should."""

    def __init__(self, given: Settings) -> None:
        with _asking("the first question"):
            self._client = _client(given)

    def studies(self, keyword: str, value: str) -> list[str]:
        """The UIDs of the studies that have a value of an element, StudyInstanceUID or AccessionNumber."""
        with _asking("the query for a study"):
            found = self._client.search_for_studies(
                search_filters={keyword: value}, fields=["AccessionNumber"]
            )
            # An archive that does not know a key answers with all that it has.
            fits = [one for one in found if first(one, keyword) == value]
            return list(dict.fromkeys(_uid(one, "StudyInstanceUID") for one in fits))

    def series(self, study_uid: str) -> list[Result]:
        """The series of a study."""
        with _asking("the query for series"):
            return list(self._client.search_for_series(study_uid))

    def headers(self, study_uid: str, series_uid: str) -> list[Result]:
        """The headers of a series' images, without their pixels."""
        with _asking("the query for headers"):
            return list(self._client.retrieve_series_metadata(study_uid, series_uid))

    def images(self, study_uid: str, series_uid: str) -> Iterator[pydicom.Dataset]:
        """The images of a series as they are stored, one by one."""
        with _asking("the request for images"):
            answer = iter(self._client.iter_series(study_uid, series_uid, media_types=_AS_STORED))
        while True:
            with _asking("the request for images"):
                image = next(answer, None)
                if image is None:
                    return
                if (image.StudyInstanceUID, image.SeriesInstanceUID) != (study_uid, series_uid):
                    raise ValueError("it sent an image of another series")
            yield image

    def store(self, study_uid: str, files: Sequence[bytes]) -> None:
        """Send DICOM files of a study. Raises InputError where one of them was not taken."""
        datasets = [pydicom.dcmread(io.BytesIO(content)) for content in files]
        with _asking("what was sent"):
            answer = self._client.store_instances(datasets, study_instance_uid=study_uid)
            refused = len(answer.get("FailedSOPSequence", ()))
        if refused:
            raise InputError(
                f"An archive takes what is sent to it; this one refused {refused} of {len(files)}; ask who runs it."
            )

    def has(self, study_uid: str, instance_uid: str) -> bool:
        """Whether a study has an object of this UID, by the archive's own query."""
        with _asking("the query for what was sent"):
            found = self._client.search_for_instances(
                study_uid, search_filters={"SOPInstanceUID": instance_uid}
            )
            return any(first(one, "SOPInstanceUID") == instance_uid for one in found)


def _uid(result: Result, keyword: str) -> str:
    """A UID of an answer; it goes into an address, so another text is refused."""
    found = first(result, keyword)
    if not is_uid(found):
        raise ValueError(f"{keyword} is no UID")
    return found


def _client(given: Settings) -> Any:
    """The library's client, with our limits."""
    try:
        import requests
        from dicomweb_client.api import DICOMwebClient
    except ImportError:
        raise InputError(
            "The archive is asked by the package dicomweb-client; it is not installed; "
            "install it with pip install 'ichseg[archive]'."
        ) from None

    def by_token(request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {given.token}"
        return request

    session = requests.Session()
    session.max_redirects = 0
    if given.token:
        session.auth = by_token
    elif given.user:
        # requests writes text as Latin-1, which has not every sign of a password.
        session.auth = requests.auth.HTTPBasicAuth(given.user.encode(), given.password.encode())
    client = DICOMwebClient(
        given.url,
        session=session,
        callback=_bounded,
        chunk_size=_PIECE_BYTES,
        permissive_uid=True,  # with leading zeros, as some anonymisers make them; is_uid checks each
        timeout=WAITS_SECONDS,
    )
    client.set_http_retry_params(retry=False)
    return client


def _bounded(response: Any, *_: Any, **__: Any) -> Any:
    """Give an answer's content an end: in bytes, in time, and where nobody wants it any longer."""
    given, until = response.iter_content, time.monotonic() + ANSWER_SECONDS

    def iter_content(chunk_size: int = 1, decode_unicode: bool = False) -> Iterator[bytes]:
        taken = 0
        for chunk in given(max(chunk_size, 1 << 14), decode_unicode):
            check_cancelled()
            taken += len(chunk)
            if taken > MAX_BYTES or time.monotonic() > until:
                response.close()
                raise InputError(
                    f"An answer of the archive has at most {MAX_BYTES >> 20} MB and takes {ANSWER_SECONDS:.0f} s; this "
                    "one has or takes more; name another series with fewer images."
                )
            yield chunk

    response.iter_content = iter_content
    return response


# --- What goes wrong, and what is not logged ---------------------------------------------------------

_busy: ContextVar[bool] = ContextVar("archive", default=False)


def _is_elsewhere(_: logging.LogRecord) -> bool:
    return not _busy.get()


for _name in ("dicomweb_client.web", "urllib3.connectionpool", "urllib3.connection"):
    logging.getLogger(_name).addFilter(_is_elsewhere)


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turn whatever goes wrong within into one sentence, and let nothing of it be logged."""
    check_cancelled()
    token = _busy.set(True)
    try:
        yield
    except InputError:
        raise
    except (
        Exception
    ) as error:  # the libraries raise many kinds, with the address and UIDs in their texts
        raise InputError(_sentence(error, what)) from None
    finally:
        _busy.reset(token)


def _sentence(error: Exception, what: str) -> str:
    """What went wrong, without the address, a UID or a name."""
    from requests import exceptions as wrong

    rule = f"An archive answers {what}"
    if isinstance(error, wrong.HTTPError) and error.response is not None:
        status = error.response.status_code
        if status in (401, 403):
            return f"{rule} of who may ask; this one refuses (HTTP {status}); check {TOKEN}, or {USER} and {PASSWORD}."
        return f"{rule}; this one refuses (HTTP {status}); check {URL}, or ask who runs it."
    if isinstance(error, wrong.TooManyRedirects):
        return f"{rule} at its own address; this one points to another; set {URL} to that."
    if isinstance(error, wrong.Timeout):
        return f"{rule} within {WAITS_SECONDS[1]:.0f} s; this one did not; try again, or ask who runs it."
    if isinstance(error, wrong.SSLError):
        return (
            f"{rule} with a certificate that this machine trusts; this one's is not; name its authority in "
            "REQUESTS_CA_BUNDLE."
        )
    if isinstance(error, wrong.ConnectionError | wrong.ChunkedEncodingError):
        return (
            f"{rule}; nothing answers, or the line broke; check {URL}, and that the archive runs."
        )
    return f"{rule} in DICOMweb; this answer is something else; check {URL}."
