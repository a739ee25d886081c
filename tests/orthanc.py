"""A real archive for tests: Orthanc (Debian's orthanc and orthanc-dicomweb) on a loopback port."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ichseg.archive.settings import PASSWORD, URL, USER

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
STARTING_SECONDS = 30.0


@dataclass(frozen=True)
class Orthanc:
    """A running archive."""

    url: str
    user: str = "reader"
    password: str = "geheim-ä"

    @property
    def environment(self) -> dict[str, str]:
        """What tells the program of it."""
        return {URL: f"{self.url}/dicom-web", USER: self.user, PASSWORD: self.password}


@contextmanager
def running(folder: Path) -> Iterator[Orthanc]:
    """An empty archive whose configuration and storage lie in a folder; the test skips where Orthanc is not here."""
    program = shutil.which("Orthanc")
    if program is None or not PLUGIN.is_file():
        pytest.skip("Orthanc with DICOMweb is not here (Debian's orthanc and orthanc-dicomweb)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Orthanc(f"http://127.0.0.1:{port}")
    configuration = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "DicomServerEnabled": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {made.user: made.password},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration), encoding="utf-8")
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            _wait(made.url, process)
            yield made
        finally:
            process.terminate()
            process.wait(timeout=STARTING_SECONDS)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until it answers; that it asks for a password is an answer."""
    until = time.monotonic() + STARTING_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/system", timeout=1)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail("Orthanc does not start", pytrace=False)
