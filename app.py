"""The page: ``python app.py [--backend torch]``, and the entry point of a Hugging Face Space."""

from __future__ import annotations

import argparse
import atexit
import os
import signal
import sys
import threading

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported

from ichseg.backends import BACKEND_VARIABLE, BACKENDS, use_backend
from ichseg.errors import InputError
from ichseg.models import default_baseline, default_model, load_predictor
from ichseg.ui.layout import build_page, make_controller

#: Loading the models earlier would slow the page's own start, later would keep the first box waiting.
WARM_UP_SECONDS = 10.0


def warm_up(visited: threading.Event) -> None:
    """Load the default methods once somebody looks at the page, or when the start is over."""
    visited.wait(WARM_UP_SECONDS)
    for name in (default_model(), default_baseline()):
        load_predictor(name)


def main() -> None:
    """Serve the page until told to stop."""
    parser = argparse.ArgumentParser(description="The page, at http://127.0.0.1:7860.")
    parser.add_argument(
        "--backend",
        metavar="NAME",
        help=f"what computes LiteMedSAM: {', '.join(BACKENDS)}; default: ${BACKEND_VARIABLE}, else auto",
    )
    try:
        use_backend(parser.parse_args().backend)
    except InputError as error:
        parser.exit(2, f"Error: {error}\n")
    # A server that is told to stop still deletes what people uploaded.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    controller = make_controller()
    atexit.register(controller.store.close)
    visited = threading.Event()
    demo, options = build_page(controller, on_visit=visited.set)
    threading.Thread(target=warm_up, args=(visited,), daemon=True).start()
    demo.launch(**options)


if __name__ == "__main__":
    main()
