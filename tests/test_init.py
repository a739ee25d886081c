"""`import ichseg` is quick, and its names are there when asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ichseg

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = {
    "load_predictor",
    "propagate",
    "read_volume",
    "segment",
    "suggest",
    "volume_ml",
    "write_mask",
}


def fresh(code: str) -> str:
    """What a new interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_import_takes_no_time_and_brings_neither_torch_nor_gradio() -> None:
    seconds, heavy = fresh(
        "import time; t = time.perf_counter(); import ichseg; t = time.perf_counter() - t;"
        "import sys; print(t, {'torch', 'gradio', 'numpy', 'nibabel'} & set(sys.modules))"
    ).split(maxsplit=1)
    assert heavy == "set()"
    assert float(seconds) < 0.2  # 2 ms here; the bound leaves room for a busy machine


@pytest.mark.parametrize(
    "use",
    [
        "ichseg.volume_ml",
        "ichseg.read_volume",
        "ichseg.load_predictor",
        "ichseg.segment",
        "__import__('ichseg.cli.main')",
    ],
)
def test_only_a_loaded_model_brings_torch(use: str) -> None:
    code = f"import sys, ichseg; {use}; print('torch' in sys.modules, 'gradio' in sys.modules)"
    assert fresh(code) == "False False"


def test_each_name_is_the_function_of_its_room() -> None:
    from ichseg.cohort import one
    from ichseg.files import nifti_mask
    from ichseg.measures.volume import volume_ml
    from ichseg.methods import catalogue, propagation
    from ichseg.scan import read

    assert ichseg.volume_ml is volume_ml
    assert ichseg.propagate is propagation.propagate
    assert ichseg.load_predictor is catalogue.load_predictor
    assert ichseg.read_volume is read.read_volume
    assert ichseg.segment is one.segment
    assert ichseg.write_mask is nifti_mask.write_mask


def test_names_are_listed_and_others_refused() -> None:
    assert set(ichseg.__all__) == LIBRARY | {"NOTICE", "__version__"}
    assert set(dir(ichseg)) >= LIBRARY
    with pytest.raises(AttributeError, match="no attribute 'segment_everything'"):
        _ = ichseg.segment_everything
