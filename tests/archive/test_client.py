"""An archive that refuses, hangs, or answers something else: a small server that says what a test has it say."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import phantoms
import pytest
from typer.testing import CliRunner

from ichseg.archive import client, transfer
from ichseg.archive.client import Archive
from ichseg.archive.settings import PASSWORD, TOKEN, URL, USER, Settings, is_configured, settings
from ichseg.cli.main import app
from ichseg.errors import Cancelled, InputError, cancelling
from tests.archive.test_round_trip import content

STUDY, SERIES = "1.2.3", "1.2.3.4"
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Stub:
    """What the server answers to every request, and the requests that it had."""

    url: str = ""
    answer: Callable[[str], Answer] = lambda path: as_json([])
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Of each request the method, the path, and the Authorization header."""

    @property
    def archive(self) -> Archive:
        return Archive(Settings(self.url, token="s3cret"))


def as_json(found: Any, status: int = 200) -> Answer:
    return status, {"Content-Type": "application/dicom+json"}, json.dumps(found).encode()


def result(**values: str) -> dict[str, Any]:
    tags = {
        "study": "0020000D",
        "series": "0020000E",
        "modality": "00080060",
        "accession": "00080050",
    }
    return {tags[name]: {"vr": "UI", "Value": [value]} for name, value in values.items()}


@pytest.fixture
def stub() -> Iterator[Stub]:
    made = Stub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = made.answer(self.path)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}/dicom-web"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            (401, {}, b""),
            rf"this one refuses \(HTTP 401\); check {TOKEN}, or {USER} and {PASSWORD}\.$",
        ),
        ((403, {}, b"DOE^JANE"), r"refuses \(HTTP 403\)"),
        ((404, {}, b""), rf"this one refuses \(HTTP 404\); check {URL}, or ask who runs it\.$"),
        ((503, {}, b""), r"\(HTTP 503\)"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), r"points to another; set .* to that\.$"),
        ((200, {"Content-Type": "text/html"}, b"<p>Log in</p>"), r"this answer is something else"),
        ((200, {}, b"[1, 2]"), r"this answer is something else"),
        ((200, {"Content-Length": "99"}, b"[]"), r"nothing answers, or the line broke"),
        (as_json([result(study="../../x", accession="A1")]), r"this answer is something else"),
    ],
)
def test_what_goes_wrong_is_one_sentence_without_names(
    stub: Stub, answer: Answer, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    stub.answer = lambda path: answer
    with caplog.at_level(logging.DEBUG), pytest.raises(InputError, match=said) as refused:
        transfer.find_study(stub.archive, "A1")
    text = str(refused.value)
    assert text.startswith("An archive answers the query for a study") and text.count(". ") == 0
    for secret in (stub.url, "A1", "s3cret", "DOE"):
        assert secret not in text and secret not in caplog.text
    assert refused.value.__cause__ is None and refused.value.__suppress_context__
    assert len(stub.asked) == 1 and stub.asked[0][2] == "Bearer s3cret"


def test_an_archive_that_does_not_answer_is_waited_for_so_long(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "WAITS_SECONDS", (0.2, 0.2))

    def hang(path: str) -> Answer:
        time.sleep(0.6)
        return as_json([])

    stub.answer = hang
    with pytest.raises(InputError, match="this one did not; try again"):
        transfer.find_study(stub.archive, "A1")
    with pytest.raises(InputError, match="nothing answers"):
        transfer.find_study(Archive(Settings("http://127.0.0.1:9/x")), "A1")


def test_an_answer_has_an_end_in_bytes_and_in_time(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.answer = lambda path: as_json(["x" * 100_000])
    monkeypatch.setattr(client, "MAX_BYTES", 50_000)
    with pytest.raises(InputError, match=r"has at most 0 MB .* this one has or takes more"):
        transfer.find_study(stub.archive, "A1")
    monkeypatch.setattr(client, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(client, "ANSWER_SECONDS", -1.0)
    with pytest.raises(InputError, match="this one has or takes more"):
        transfer.find_study(stub.archive, "A1")


def test_what_nobody_waits_for_ends(stub: Stub) -> None:
    with cancelling(lambda: bool(stub.asked)), pytest.raises(Cancelled):
        transfer.find_study(stub.archive, "A1")


def test_an_archive_that_ignores_the_query_gives_no_other_study(stub: Stub) -> None:
    others = [result(study="1.2.9", accession="B2"), result(study=STUDY, accession="A1")]
    stub.answer = lambda path: as_json(others)
    assert transfer.find_study(stub.archive, "A1") == STUDY
    with pytest.raises(InputError, match="it has none of this UID"):
        transfer.find_study(stub.archive, "1.2.8")


def test_what_is_given_reaches_the_address_as_a_value_alone(stub: Stub) -> None:
    with pytest.raises(InputError, match="it has none"):
        transfer.find_study(stub.archive, "a/../&limit=0#")
    ((_, path, _),) = stub.asked
    assert path.startswith("/dicom-web/studies?AccessionNumber=a%2F..%2F%26limit%3D0%23&")


def study(stub: Stub, *kinds: str, series: str = SERIES) -> Callable[[str], Answer]:
    """Answers of an archive with one study, whose series are of these modalities and have no images."""

    def answer(path: str) -> Answer:
        if path.split("?")[0].endswith("/series"):
            return as_json([result(series=series, modality=kind) for kind in kinds])
        if "metadata" in path:
            return as_json([])
        return as_json([result(study=STUDY)])

    return answer


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (("MR", "SR"), r"other modalities \(MR, SR\); name another study\.$"),
        ((), r"other modalities \(none\)"),
        (("CT",), r"."),
    ],
)
def test_a_study_without_a_head_ct(stub: Stub, tmp_path: Path, kinds: Any, said: str) -> None:
    stub.answer = study(stub, *kinds)
    with pytest.raises(InputError, match=said):
        transfer.fetch(stub.archive, STUDY, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_series_uid_that_is_none_is_never_asked_for(stub: Stub, tmp_path: Path) -> None:
    stub.answer = study(stub, "CT", series="1.2/../../secret")
    with pytest.raises(InputError):
        transfer.fetch(stub.archive, STUDY, tmp_path)
    assert not [path for _, path, _ in stub.asked if "secret" in path]


def test_images_of_another_series_are_refused(stub: Stub) -> None:
    (image,) = phantoms.dicom_slices(phantoms.speckled_head(), [0.0])
    part = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + content(image) + b"\r\n--x--"
    kind = 'multipart/related; type="application/dicom"; boundary=x'
    stub.answer = lambda path: (200, {"Content-Type": kind}, part)
    mine = str(image.StudyInstanceUID), str(image.SeriesInstanceUID)
    assert [one.SOPInstanceUID for one in stub.archive.images(*mine)] == [image.SOPInstanceUID]
    with pytest.raises(InputError, match=r"the request for images in DICOMweb; .* something else"):
        list(stub.archive.images(STUDY, SERIES))


def test_an_archive_that_does_not_take_all_says_so(stub: Stub) -> None:
    (image,) = phantoms.dicom_slices(phantoms.speckled_head(), [0.0])
    failed = {"00081198": {"vr": "SQ", "Value": [result(series=SERIES)]}}
    stub.answer = lambda path: as_json(failed, 202)
    with pytest.raises(InputError, match=r"this one refused 1 of 1; ask who runs it\.$"):
        stub.archive.store(image.StudyInstanceUID, [content(image)])
    stub.answer = lambda path: as_json([] if path.count("?") else {})
    said = transfer.send(stub.archive, image.StudyInstanceUID, [content(image)])
    assert said == "The archive took CT, but does not list them yet."


# --- The environment ---------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (URL, TOKEN, USER, PASSWORD):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_it_is_off_unless_the_environment_names_one(environment: pytest.MonkeyPatch) -> None:
    assert not is_configured()
    run = CliRunner().invoke(app, ["info", "dicomweb://1.2.3"])
    assert isinstance(run.exception, InputError) and URL in str(run.exception)
    environment.setenv(URL, "https://archive.example.org/dicom-web/")
    assert is_configured() and settings() == Settings("https://archive.example.org/dicom-web")


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://a.b/c", "archive", "http://", "http://user:pass@a.b/c", "http://a.b/c?token=pass"),
        *("http://a.b:x/c", "file:///etc"),
    ],
)
def test_an_address_that_is_none_is_refused_without_repeating_it(
    environment: pytest.MonkeyPatch, url: str
) -> None:
    environment.setenv(URL, url)
    with pytest.raises(InputError, match=f"{URL} is an address such as") as refused:
        settings()
    assert "pass" not in str(refused.value).replace("password", "")


@pytest.mark.parametrize("given", [{TOKEN: "t", USER: "u"}, {USER: "u"}, {PASSWORD: "p"}])
def test_who_asks_is_one_thing(environment: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    for name, value in {URL: "http://a.b", **given}.items():
        environment.setenv(name, value)
    with pytest.raises(InputError, match="another mixture of them is set"):
        settings()


def test_no_secret_is_in_what_is_printed_of_the_settings() -> None:
    given = Settings("http://a.b", "s3cret", "someone", "geheim")
    assert repr(given) == "Settings(url='http://a.b')"


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dicomweb_client.api", None)
    with pytest.raises(InputError, match=r"install it with pip install 'ichseg\[archive\]'\.$"):
        Archive(Settings("http://a.b"))


def test_a_file_here_is_not_sent(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    run = CliRunner().invoke(app, ["segment", str(tmp_path), "--auto", "--send"])
    assert isinstance(run.exception, InputError)
    assert "--send goes back to the archive that a scan came from" in str(run.exception)
