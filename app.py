"""The page: ``python app.py [--backend torch]``, and the entry point of a Hugging Face Space."""

from __future__ import annotations

import argparse
import atexit
import os
import signal
import sys
import threading

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported

from ichseg.errors import InputError
from ichseg.methods.backends import BACKEND_VARIABLE, BACKENDS, use_backend
from ichseg.methods.catalogue import default_baseline, default_model, load_predictor


def warm_up() -> None:
    """Load the default methods, so that the first box need not wait for them."""
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
    threading.Thread(target=warm_up, daemon=True).start()
    # Importing gradio takes seconds of one core: the models load on another meanwhile.
    from ichseg.page.layout import build_page, make_controller

    controller = make_controller()
    atexit.register(controller.close)
    demo, options = build_page(controller)
    demo.launch(**options)


if __name__ == "__main__":
    main()
