"""Downloads, and going on with what was saved."""
