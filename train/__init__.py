"""The fine-tune: data sets in, an adapter for ``weights/`` out. Run it as ``python -m train --help``."""
