"""How the page's server starts and ends: what ``python app.py``, ``ichseg page`` and ``python -m ichseg.page`` run."""

from __future__ import annotations

import argparse
import gc
import ipaddress
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ichseg.errors import InputError
from ichseg.methods.backends import BACKEND_VARIABLE, BACKENDS, use_backend
from ichseg.methods.catalogue import default_baseline, default_model, load_predictor
from ichseg.page.folders import ServerFolder, folder_for_gradio
from ichseg.page.health import Health
from ichseg.page.leases import Terms
from ichseg.page.memory import keep_little

if TYPE_CHECKING:
    from ichseg.cohort.study import Study

#: "off" serves the page without its API and MCP tools, as ``--no-api`` does.
API_VARIABLE = "ICHSEG_API"


def main() -> None:
    """Serve the page until told to stop."""
    parser = argparse.ArgumentParser(description="The page, at http://127.0.0.1:7860.")
    parser.add_argument(
        "--backend",
        metavar="NAME",
        help=f"what computes LiteMedSAM: {', '.join(BACKENDS)}; default: ${BACKEND_VARIABLE}, else auto",
    )
    parser.add_argument(
        "--no-api",
        action="store_true",
        help=f"the page alone, without its API and MCP tools; the same as {API_VARIABLE}=off",
    )
    parser.add_argument(
        "--study",
        nargs=2,
        type=Path,
        metavar=("SCANS", "RESULTS"),
        help="open and correct the scans of a study by the links of its report, for whoever reaches the page",
    )
    parser.add_argument(
        "--study-for-others",
        action="store_true",
        help="serve the study where others than this machine reach the page, too",
    )
    asked = parser.parse_args()
    study: Study | None = None
    try:
        if asked.study:
            check_reach(asked.study_for_others)
            from ichseg.cohort.study import Study

            study = Study(*asked.study)
            print(
                f"Study of {len(study)} scans: whoever reaches this page can read and correct them."
            )
        use_backend(asked.backend)
        with_api = wants_api() and not asked.no_api
        terms = Terms.from_environment()
    except InputError as error:
        parser.exit(2, f"Error: {error}\n")
    keep_little()
    # A server that is told to stop still deletes what people uploaded.
    signal.signal(signal.SIGTERM, _stop)
    health = Health((default_model(), default_baseline()), load_predictor)
    threading.Thread(target=health.warm_up, daemon=True).start()
    folder = folder_for_gradio()
    try:
        # All temporary files of the process go with its folder, also where it is killed and another one starts.
        tempfile.tempdir = str(folder.new_private())
        _serve(folder, health, terms, study, with_api=with_api)
    finally:
        folder.close()


def _serve(
    folder: ServerFolder, health: Health, terms: Terms, study: Study | None, *, with_api: bool
) -> None:
    """Serve the page from a folder until the process is told to stop."""
    # What is imported is never garbage. To look for some in it would take a tenth of the start, and a third of a second
    # again and again while people work.
    gc.disable()
    # Importing gradio takes seconds of one core: the models load on another meanwhile.
    from ichseg.page.api import Api
    from ichseg.page.controller import Controller
    from ichseg.page.layout import build_page

    controller = Controller(folder.uploads, folder=folder, terms=terms, study=study)
    controller.keep_house()
    api = Api(controller.shared.upload_root, controller.shared.read_scan) if with_api else None
    try:
        demo, options = build_page(controller, api)
        options["app_kwargs"]["routes"].append(health.route())
        gc.freeze()
        gc.enable()
        demo.launch(**options)
    finally:
        if api is not None:
            api.close()
        controller.close()


def wants_api() -> bool:
    """Whether the environment leaves the API on. Raises InputError for what is neither on nor off."""
    said = os.environ.get(API_VARIABLE, "on")
    if said not in ("on", "off"):
        raise InputError(f"{API_VARIABLE} is on or off; got '{said[:60]}'; set one of them.")
    return said == "on"


def check_reach(for_others: bool) -> None:
    """Refuse to serve a study's scans to others than this machine, unless the operator says so.

    Gradio serves ``127.0.0.1`` unless its environment says otherwise, and nobody else unless it is told to share.
    """
    name = os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    shares = os.environ.get("GRADIO_SHARE", "").lower() == "true"
    if for_others or (not shares and _is_this_machine(name)):
        return
    got = "GRADIO_SHARE=true" if shares else f"GRADIO_SERVER_NAME={name[:60]}"
    raise InputError(
        "Whoever reaches the page can read the scans of the study that it is started for, so that it is served to this "
        f"machine alone; got {got}; leave it out, or say --study-for-others."
    )


def _is_this_machine(name: str) -> bool:
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _stop(*_: Any) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: nothing breaks off the deletion
    sys.exit()


def run(serve: Callable[[], None]) -> NoReturn:
    """Do ``serve`` and then end the process in one step, with the status that it would have ended with.

    The interpreter would wind up first, while threads still compute slices for people and in the background. It ends a
    thread that comes back from a library then, and C++ takes that for an error and aborts the process ("terminate
    called without an active exception"; CPython issue 87135, until Python 3.14).
    """
    status = 1
    try:
        serve()
        status = 0
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
