"""The page behind nginx, with TLS, a log-in and a path of its own, by the configuration of docs/deployment.md."""

from __future__ import annotations

import getpass
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ichseg.files.nifti_mask import read_mask
from ichseg.measures.volume import volume_ml
from ichseg.sample import sample_paths
from ichseg.scan.read import read_volume
from tests.e2e.conftest import People, Server, free_port, serving, visiting
from tests.pages import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("nginx") and shutil.which("openssl")),
        reason="needs nginx and openssl: apt-get install nginx-light openssl",
    ),
]

BOX = (285, 174, 349, 291)
USER, PASSWORD = "reader", "of scans"
#: The addresses of all that a page was made of.
LOADED = "performance.getEntries().map(({ name }) => name).filter(name => name.includes(':'))"
#: What nginx writes is kept in the test's folder, and it ends with the test.
AROUND = """
user {user};
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""


def configured(root: Path, folder: Path, port: int, page: Server) -> str:
    """The server block of the document, with this machine's ports and files in place of a hospital's."""
    document = (root / "docs" / "deployment.md").read_text()
    (block,) = re.findall(r"```nginx\n(.*?)```", document, re.DOTALL)
    for theirs, here in {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "ct.example.org": "127.0.0.1",
        "/etc/ssl/ct.pem": str(folder / "ct.pem"),
        "/etc/ssl/ct.key": str(folder / "ct.key"),
        "/etc/nginx/ct.users": str(folder / "ct.users"),
        "http://127.0.0.1:7860/": f"{page.url}/",
    }.items():
        assert block.count(theirs) == 1, theirs
        block = block.replace(theirs, here)
    return AROUND.format(user=getpass.getuser(), folder=folder, server=block)


def openssl(*arguments: str) -> str:
    run = subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True)
    return run.stdout.strip()


@pytest.fixture(scope="module")
def address(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where nginx shows the page, to whoever logs in."""
    folder = tmp_path_factory.mktemp("nginx")
    key, certificate = str(folder / "ct.key"), str(folder / "ct.pem")
    name = ("-subj", "/CN=127.0.0.1", "-days", "2")
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *name
    )
    (folder / "ct.users").write_text(f"{USER}:{openssl('passwd', '-apr1', PASSWORD)}\n")
    port = free_port()
    with serving(root, tmp_path_factory.mktemp("server"), GRADIO_ROOT_PATH="/hematoma") as page:
        conf = folder / "nginx.conf"
        conf.write_text(configured(root, folder, port, page))
        process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(conf)])
        try:
            wait_until(lambda: listens(port), 20)
            yield f"https://127.0.0.1:{port}/hematoma/"
        finally:
            process.terminate()
            process.wait(30)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_who_has_no_log_in_gets_nothing(address: str) -> None:
    assert httpx.get(address, verify=False).status_code == 401
    assert httpx.get(address, verify=False, auth=(USER, PASSWORD)).status_code == 200


def test_a_scan_is_marked_and_its_mask_downloaded_under_a_path(
    address: str, people: People, tmp_path: Path
) -> None:
    copy = tmp_path / "mine.nii.gz"
    shutil.copyfile(sample_paths()[0], copy)
    with visiting(people, address) as visit:
        viewer = visit(
            ignore_https_errors=True, http_credentials={"username": USER, "password": PASSWORD}
        )
        asked: list[str] = viewer.page.evaluate(LOADED)
        assert asked
        viewer.page.on("request", lambda request: asked.append(request.url))
        viewer.open_files(copy).opened().draw(BOX).settle()
        drawn_ml = viewer.ml(0)[1]
        assert drawn_ml > 0
        viewer.press("w").settle()
        assert viewer.ml(0)[1] > drawn_ml

        scan = read_volume(copy)
        mask_zyx = read_mask(viewer.download("mask", tmp_path), scan) != 0
        assert volume_ml(mask_zyx, scan) == pytest.approx(viewer.ml(0)[1], rel=0.01)
    elsewhere = {url for url in asked if not url.startswith((address, "blob:", "data:"))}
    assert elsewhere == set()
