"""The page as people meet it: app.py in a process of its own, driven in a real Chromium."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import numpy.typing as npt
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright
from safetensors.numpy import save_file
from scipy import ndimage

from benchmarks.latency import CHROMIUM_ARGUMENTS
from ichseg.files.nifti_mask import read_mask
from ichseg.methods.weights import sha256
from ichseg.sample import sample_paths
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume
from tests.e2e.driver import Viewer

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is end to end."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@dataclass(frozen=True)
class Server:
    """A running app.py."""

    url: str
    folder: Path
    """Where it puts uploads and downloads."""
    settings: Mapping[str, str]
    """What its environment has beside that of the tests."""
    pid: int

    def files(self) -> set[Path]:
        """What lies in its folder. Not by rglob, which fails where a folder goes while it looks."""
        return {Path(folder, name) for folder, _, names in os.walk(self.folder) for name in names}


#: app.py with light models, with the networks but nothing embedded ahead, and as it is.
LIGHT, NETWORKS, REAL = "tests/e2e/light_app.py", "tests/e2e/networks_app.py", "app.py"


@contextmanager
def serving(
    root: Path, folder: Path, *, app: str = LIGHT, options: Sequence[str] = (), **environment: str
) -> Iterator[Server]:
    """The page on a free port until the block ends."""
    port = free_port()
    process = start(root, folder, port, app=app, options=options, **environment)
    try:
        yield Server(f"http://127.0.0.1:{port}", folder, environment, process.pid)
    finally:
        process.terminate()
        ended = process.wait(timeout=20)
    assert ended == 0, f"app.py did not end well:\n{(folder / 'log').read_text()}"
    assert not list((folder / "gradio").iterdir()), "files are left in the temporary folder"


def free_port() -> int:
    """A port on this machine that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(
    root: Path,
    folder: Path,
    port: int,
    *,
    app: str = LIGHT,
    options: Sequence[str] = (),
    **environment: str,
) -> subprocess.Popen[bytes]:
    """The page in a process of its own, once it serves; whoever starts it ends it."""
    settings = {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
        "TMPDIR": str(folder),
        "HF_HUB_OFFLINE": "1",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, app, *options],
            cwd=root,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | settings | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(process, folder / "log")
    except BaseException:
        process.kill()
        raise
    return process


def _wait_for(process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + 180
    while time.monotonic() < limit:
        if process.poll() is not None:
            break
        if "Running on" in log.read_text():
            return
        time.sleep(0.05)
    pytest.fail(f"app.py did not serve:\n{log.read_text()}", pytrace=False)


@pytest.fixture(scope="session")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One page for most tests, of light models."""
    with serving(root, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def refining_server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One page of light models whose default refines its first answer."""
    with serving(root, tmp_path_factory.mktemp("refining"), LIGHT_REFINES="1") as running:
        yield running


@pytest.fixture(scope="session")
def real_server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One page with the networks themselves, for the tests of what they answer."""
    with serving(root, tmp_path_factory.mktemp("real"), app=NETWORKS) as running:
        yield running


@pytest.fixture(scope="session")
def closer_server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An app.py whose default model looks twice: LiteMedSAM under an adapter that changes nothing."""
    weights = tmp_path_factory.mktemp("weights")
    manifest = json.loads((root / "weights" / "manifest.json").read_text())
    (weights / "litemedsam").symlink_to(root / "weights" / "litemedsam")
    adapter = weights / "litemedsam-rslora"
    adapter.mkdir()
    layer = "base_model.model.mask_decoder.transformer.layers.0.self_attn.q_proj"
    save_file(
        {
            f"{layer}.lora_A.weight": np.zeros((2, 256), np.float32),
            f"{layer}.lora_B.weight": np.zeros((256, 2), np.float32),
        },
        adapter / "adapter_model.safetensors",
    )
    for name, content in {
        "adapter_config.json": {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"},
        "training.json": {"inference": {"second_look": True}},
    }.items():
        (adapter / name).write_text(json.dumps(content))
    files = [
        {
            "path": path.relative_to(weights).as_posix(),
            "sha256": sha256(path),
            "bytes": path.stat().st_size,
        }
        for path in sorted(adapter.iterdir())
    ]
    manifest["litemedsam-rslora"] = {"files": files, "source": "made here", "licence": "none"}
    (weights / "manifest.json").write_text(json.dumps(manifest))
    folder = tmp_path_factory.mktemp("closer")
    with serving(root, folder, app=REAL, ICHSEG_WEIGHTS=str(weights)) as running:
        yield running


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_ARGUMENTS))
        yield opened
        opened.close()


#: Gradio's sign of loading asks for a frame in each frame, for as long as the page is open, seen or not (6.31).
#: Without a graphics card that is a tenth of a core for each page.
NO_FRAMES_FOR_THE_SIGN_OF_LOADING = """
const frame = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (callback) =>
  new Error().stack.includes("/statustracker") ? 0 : frame(callback);
"""


class People:
    """Contexts of a browser, one for each kind of screen, which tests share.

    What Gradio's page is made of stays in the cache, so that only the first visit waits for it. A new person finds
    nothing that another has left.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: dict[str, BrowserContext] = {}

    def new_page(self, **screen: Any) -> Page:
        """A new person's page."""
        key = repr(sorted(screen.items()))
        if key not in self._contexts:
            self._contexts[key] = self._browser.new_context(**screen)
            self._contexts[key].add_init_script(NO_FRAMES_FOR_THE_SIGN_OF_LOADING)
        return self._contexts[key].new_page()

    def forget(self, page: Page) -> None:
        """Close a page with all that it has stored."""
        context, url = page.context, page.url
        page.close()
        blank = context.new_page()
        session = context.new_cdp_session(blank)
        session.send("Storage.clearDataForOrigin", {"origin": url, "storageTypes": "local_storage"})
        blank.close()


@pytest.fixture(scope="session")
def people(browser: Browser) -> People:
    return People(browser)


@contextmanager
def visiting(people: People, url: str) -> Iterator[Callable[..., Viewer]]:
    """Open the page as a new person; afterwards: no error on the console, no request to another host."""
    pages, complaints, hosts = [], [], set()

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    def open_page(url: str = url, **settings: Any) -> Viewer:
        page = people.new_page(**{"viewport": {"width": 1440, "height": 900}, **settings})
        pages.append(page)
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: hosts.add(urlparse(request.url).hostname))
        return Viewer(page, url)

    yield open_page
    for page in pages:
        people.forget(page)
    assert complaints == []
    assert hosts <= {"127.0.0.1", None}  # None: data: and blob: addresses


@pytest.fixture
def visit(people: People, server: Server) -> Iterator[Callable[..., Viewer]]:
    """``visiting`` the one server, in a browser without WebGL."""
    with visiting(people, server.url) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def one_viewer(people: People, server: Server) -> Iterator[Viewer]:
    """One person with the sample on screen, for a file's tests to share: a page takes a second to load."""
    with visiting(people, server.url) as open_page:
        yield open_page().open_sample()


@pytest.fixture
def viewer(one_viewer: Viewer) -> Viewer:
    """That person as they were before they did anything."""
    return one_viewer.start_over()


@pytest.fixture
def visit_real(people: People, real_server: Server) -> Iterator[Callable[..., Viewer]]:
    """``visiting`` the page with the networks themselves."""
    with visiting(people, real_server.url) as open_page:
        yield open_page


@pytest.fixture(scope="session")
def sample() -> CTVolume:
    """The scan of the sample button."""
    return read_volume(sample_paths()[0])


@pytest.fixture(scope="session")
def reference(sample: CTVolume) -> npt.NDArray[np.bool_]:
    """Where the sample's blood is, bool [z, y, x]."""
    return read_mask(sample_paths()[1], sample) != 0


@pytest.fixture(scope="module")
def largest_lesion(reference: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The largest connected component of the sample's blood, bool [z, y, x]."""
    labels, _ = ndimage.label(reference, np.ones((3, 3, 3)))
    return np.equal(labels, 1 + np.argmax(np.bincount(labels.ravel())[1:]))
