"""Programs call the server: Gradio's client, curl and an MCP client get the page's mask and leave nothing behind."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import phantoms
import pytest
from gradio_client import Client, handle_file
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ImageContent, TextContent

from ichseg.files.nifti_mask import read_mask
from ichseg.methods.catalogue import CATALOGUE
from ichseg.page.controller import Controller
from ichseg.page.embeddings import Embeddings
from ichseg.sample import sample_paths
from ichseg.scan.volume import CTVolume
from tests.e2e.conftest import Server
from tests.e2e.light_app import LightPredictor
from tests.pages import Page, awaited, rested, wait_until

SLICE, BOX = 13, [285, 174, 349, 291]
ASKED: dict[str, Any] = {"boxes": {str(SLICE): [BOX]}, "propagate": True}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, under a patient's name."""
    path = tmp_path_factory.mktemp("given") / "SMITH_JOHN.nii.gz"
    return Path(shutil.copyfile(sample_paths()[0], path))


@pytest.fixture(scope="module")
def shown_zyx(tmp_path_factory: pytest.TempPathFactory, sample: CTVolume) -> npt.NDArray[np.uint8]:
    """The page's own mask of the box, propagated: uint8 [z, y, x]."""
    made = {name: LightPredictor(CATALOGUE[name]) for name in ("litemedsam-rslora", "litemedsam")}
    embeddings = Embeddings(made.__getitem__)
    controller = Controller(
        tmp_path_factory.mktemp("page"), embeddings=embeddings, read=lambda path, **_: sample
    )
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=SLICE, boxes=[BOX])
    rested(controller, page, SLICE)
    page.ask("propagate", lesion=1)
    case = controller.store.get("x").case
    assert case is not None
    shown = case.segmentation.labels_zyx("litemedsam-rslora")
    controller.close()
    assert len(np.flatnonzero(shown.any(axis=(1, 2)))) > 3
    return shown


Left = Callable[[], list[str]]


@pytest.fixture
def left(server: Server) -> Left:
    """Names of the files of this test's calls that are still on the server; pages of other tests have theirs."""

    def files() -> set[Path]:
        return {path for path in server.files() if path.name.startswith(("SMITH", "hematoma-"))}

    before = files()
    return lambda: sorted(path.name for path in files() - before)


def test_the_server_is_ready_and_lists_these_two_calls_alone(server: Server) -> None:
    assert httpx.get(f"{server.url}/gradio_api/health").json() == {"status": "ready"}
    info = httpx.get(f"{server.url}/gradio_api/info").json()
    assert set(info["named_endpoints"]) == {"/segment", "/measure"}
    assert not info["unnamed_endpoints"]
    tools = httpx.get(f"{server.url}/gradio_api/mcp/schema").json()
    assert [one["name"] for one in tools] == ["segment", "measure"]
    assert "Not a medical device" in tools[0]["description"]
    assert "from 0 at the foot end" in tools[0]["inputSchema"]["properties"]["boxes"]["description"]


def test_gradios_client_gets_the_pages_mask_and_measures_it(
    left: Left,
    server: Server,
    given: Path,
    shown_zyx: npt.NDArray[np.uint8],
    sample: CTVolume,
    tmp_path: Path,
) -> None:
    client = Client(
        server.url, verbose=False, download_files=str(tmp_path), analytics_enabled=False
    )
    record, mask, picture = client.predict(scan=handle_file(given), **ASKED, api_name="/segment")
    np.testing.assert_array_equal(read_mask(mask, sample), shown_zyx)
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    wait_until(lambda: left() == [])
    small = phantoms.scan((0, 5, 10), (16, 16)).hu_zyx
    blood = np.zeros(small.shape, np.uint8)
    blood[1, 4:10, 5:9] = 1
    files = [
        handle_file(phantoms.save_nifti(tmp_path / f"SMITH_{name}.nii.gz", array))
        for name, array in (("a", np.where(blood, 65, small)), ("b", blood))
    ]
    measured, report = client.predict(*files, api_name="/measure")
    (lesion,) = json.loads(measured)["baseline"]["lesions"]
    assert lesion["voxels"] == 24 and Path(report).read_bytes().startswith(b"%PDF")
    assert "SMITH" not in record + measured + mask + picture + report
    wait_until(lambda: left() == [])
    with pytest.raises(Exception, match="slices 0 to 29; got 99; choose one of them"):
        client.predict(scan=handle_file(given), boxes={"99": [BOX]}, api_name="/segment")
    client.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
def test_curl_gets_it_as_the_document_says(
    left: Left,
    server: Server,
    given: Path,
    shown_zyx: npt.NDArray[np.uint8],
    sample: CTVolume,
    root: Path,
    tmp_path: Path,
) -> None:
    text = (root / "docs" / "api.md").read_text(encoding="utf-8")
    script = text.split("```\nSERVER=")[1].split("```")[0]
    for said, meant in (
        ("http://127.0.0.1:7860", server.url),
        ("head_ct.nii.gz", str(given)),
        (r"\"12\": [[120, 80, 180, 140]]", rf"\"{SLICE}\": [{BOX}]"),
    ):
        assert said in script
        script = script.replace(said, meant)
    run = subprocess.run(
        ["bash", "-c", f"SERVER={script}"], capture_output=True, text=True, check=True, timeout=120
    )
    event, data = run.stdout.strip().split("\n\n")[-1].split("\ndata: ")  # after heartbeats
    assert event == "event: complete"
    record, mask, picture = json.loads(data)
    (tmp_path / "mask.nii.gz").write_bytes(httpx.get(mask["url"]).content)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", sample), shown_zyx)
    assert "SMITH" not in data and json.loads(record)["model"] == "litemedsam-rslora"
    wait_until(lambda: left() == [picture["orig_name"]])
    assert httpx.get(picture["url"]).status_code == 200
    wait_until(lambda: left() == [])


def test_an_mcp_client_gets_it_as_a_tool(
    left: Left,
    server: Server,
    given: Path,
    shown_zyx: npt.NDArray[np.uint8],
    sample: CTVolume,
    tmp_path: Path,
) -> None:
    files = {"files": (given.name, given.read_bytes())}
    (path,) = httpx.post(f"{server.url}/gradio_api/upload", files=files).json()

    async def call() -> Any:
        address = f"{server.url}/gradio_api/mcp/"
        async with (
            streamable_http_client(address) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            scan = f"{server.url}/gradio_api/file={path}"
            answers = [await session.call_tool("segment", {"scan": scan, **ASKED})]
            answers.append(await session.call_tool("segment", {"scan": scan, **ASKED}))
            return answers

    found, again = awaited(call())
    record, mask, picture, address = found.content
    assert isinstance(record, TextContent) and isinstance(mask, TextContent)
    assert isinstance(picture, ImageContent) and isinstance(address, TextContent)
    (tmp_path / "mask.nii.gz").write_bytes(httpx.get(mask.text).content)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", sample), shown_zyx)
    assert json.loads(record.text)["volume_ml"] > 0 and "SMITH" not in record.text + mask.text
    httpx.get(address.text.removeprefix("Image URL: "))
    wait_until(lambda: left() == [])
    assert again.isError and "this one is not here; upload it" in again.content[0].text
