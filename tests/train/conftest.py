"""What several test files of train share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ichseg.methods import catalogue
from ichseg.methods import weights as weight_files
from tests.tiny_sam import write_tiny
from tests.train.heads import CASES
from train.data import cache
from train.data.cache import Prepared, prepare

#: The networks whose place a tiny one takes.
BASES = ("medsam", "sam")


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The heads of ``tests.train.heads``, prepared."""
    out = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "read_cases", lambda *_: iter(CASES))
        return prepare("folder", "unused", out)


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A weights folder with a tiny random network in the place of each ViT-B."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "manifest.json").write_text((weight_files.WEIGHTS_DIR / "manifest.json").read_text())
    (folder / "litemedsam").symlink_to(weight_files.WEIGHTS_DIR / "litemedsam")
    for base in BASES:
        write_tiny(folder / base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_files, "WEIGHTS_DIR", folder)
        patch.setattr(catalogue, "_LOADED", {})
        yield folder
