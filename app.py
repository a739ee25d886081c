"""The page: ``python app.py``, and the entry point of a Hugging Face Space."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported

from ichseg.models import default_baseline, default_model, load_predictor
from ichseg.ui.layout import build_page, make_controller


def warm_up() -> None:
    """Load the default methods while the person looks at the page."""
    for name in (default_model(), default_baseline()):
        load_predictor(name)


if __name__ == "__main__":
    # A server that is told to stop still deletes what people uploaded.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    controller = make_controller()
    atexit.register(controller.store.close)
    demo, options = build_page(controller)
    threading.Thread(target=warm_up, daemon=True).start()
    demo.launch(**options)
