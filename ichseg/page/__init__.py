"""All that knows Gradio: the viewer (its .html, .js and .css beside it), the session store, the page."""

from ichseg.page.gradio_start import prepare

prepare()
