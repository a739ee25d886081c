"""One identity over all that decides a mask: what changes it, what does not, and what a record says of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest
import torch
from safetensors.torch import save_file

import ichseg
from ichseg import cohort
from ichseg.errors import InputError
from ichseg.files.records import json_bytes
from ichseg.files.session import (
    BEFORE_IDENTITY,
    SessionRecord,
    load_session,
    same_mask_note,
    segmentation_record,
)
from ichseg.methods import catalogue, identity
from ichseg.methods import weights as weight_files
from ichseg.methods.catalogue import load_predictor
from ichseg.methods.identity import Identity, code_sha256, identity_of
from ichseg.scan.read import read_volume
from tests.tiny_sam import write_tiny

ROOT = Path(__file__).resolve().parents[2]
LAYER = "base_model.model.vision_encoder.layers.0.attn.proj"
BOX = "32,20,49,34"


@pytest.fixture(scope="module", autouse=True)
def _tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A tiny random network in the place of SAM, so that adapters of it are loaded in no time."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "manifest.json").write_text((weight_files.WEIGHTS_DIR / "manifest.json").read_text())
    write_tiny(folder / "sam")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_files, "WEIGHTS_DIR", folder)
        yield


@pytest.fixture(autouse=True)
def _nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test puts into a folder is loaded from there, not remembered."""
    monkeypatch.setattr(catalogue, "_LOADED", {})


def adapter(folder: Path, alpha: float = 4, inference: dict[str, Any] | None = None) -> str:
    """An adapter of SAM whose matrices are the same whatever its configuration says."""
    folder.mkdir(parents=True)
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": alpha, "use_rslora": True}
    settings["base_model_name_or_path"] = weight_files.hub_repo("sam")
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    matrices = {f"{LAYER}.lora_A.weight": torch.ones(2, 32)}
    matrices[f"{LAYER}.lora_B.weight"] = torch.ones(32, 2)
    save_file(matrices, folder / "adapter_model.safetensors")
    if inference is not None:
        (folder / "training.json").write_text(json.dumps({"inference": inference}))
    return str(folder)


@pytest.fixture
def fresh_code() -> Iterator[None]:
    """The hash of the sources is read anew, in the test and after it."""
    code_sha256.cache_clear()
    yield
    code_sha256.cache_clear()


def test_an_adapters_scaling_is_part_of_what_its_weights_are(tmp_path: Path) -> None:
    weak, strong = (
        load_predictor(adapter(tmp_path / str(alpha) / "mine", alpha)) for alpha in (4, 64)
    )
    assert weak.weights_sha256 != strong.weights_sha256
    assert identity_of(weak).sha256 != identity_of(strong).sha256
    again = load_predictor(adapter(tmp_path / "again" / "mine", 4))
    assert identity_of(weak) == identity_of(again)


def test_what_an_adapter_is_asked_with_is_part_of_it(tmp_path: Path) -> None:
    settings = [{"second_look": False}, {"second_look": True}]
    settings += [{"second_look": True, "crop_sides": 2.0}]
    found = {
        identity_of(load_predictor(adapter(tmp_path / str(n) / "mine", 4, one))).sha256
        for n, one in enumerate(settings)
    }
    assert len(found) == 3


def test_the_back_end_and_its_precision_are_part_of_it(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "mine")
    by_torch, other = load_predictor(folder), load_predictor(folder, device="cpu")
    other.backend.precision = "float16"  # type: ignore[attr-defined]
    assert identity_of(by_torch).backend.startswith("torch ")
    assert {"torch", "transformers", "numpy"} <= identity_of(by_torch).packages.keys()
    assert identity_of(by_torch) != identity_of(other)
    told = identity_of(by_torch).differences(identity_of(other))
    assert len(told) == 1 and told[0].endswith("torch cpu float16)")


def test_a_step_after_the_model_and_a_refinement_are_part_of_it() -> None:
    predictor = load_predictor("threshold")
    plain = identity_of(predictor)
    assert plain == identity_of(predictor, refinement=False)
    assert plain != identity_of(predictor, refinement=True)
    assert plain != identity_of(predictor, edge=True)
    assert plain != identity_of(load_predictor("fcm"))


def copied(folder: Path) -> Path:
    """The package, without what is compiled of it."""
    source = Path(ichseg.__file__).parent
    target = folder / "ichseg"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "viewer"))
    return target


def code_of(path: Path) -> str:
    """The hash that a process gives whose package lies in a folder or an archive."""
    code = "from ichseg.methods.identity import code_sha256 as code; print(code())"
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(path)!r}); {code}"],
        cwd=path.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return run.stdout.strip()


def test_the_sources_are_part_of_it_wherever_they_are_installed(tmp_path: Path) -> None:
    package = copied(tmp_path / "wheel")
    assert code_of(tmp_path / "wheel") == code_sha256()
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        for path in sorted(package.rglob("*.py")):
            archive.write(path, path.relative_to(tmp_path / "wheel"))
    assert code_of(tmp_path / "package.zip") == code_sha256()
    for path in package.rglob("*.py"):  # as a checkout on Windows has it
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert code_of(tmp_path / "wheel") == code_sha256()
    with (package / "page" / "layout.py").open("a") as file:
        file.write("# what is shown\n")
    assert code_of(tmp_path / "wheel") == code_sha256()
    with (package / "methods" / "threshold.py").open("a") as file:
        file.write("THRESHOLD_HU = 50.0\n")
    assert code_of(tmp_path / "wheel") != code_sha256()


@pytest.mark.usefixtures("fresh_code")
def test_the_sources_are_read_once_and_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    started = time.process_time()
    first = code_sha256()
    assert time.process_time() - started < 0.1
    monkeypatch.setattr(identity, "_sources", None)
    assert code_sha256() == first


def test_all_that_is_left_out_is_there_to_be_left_out() -> None:
    folder = Path(ichseg.__file__).parent
    assert all((folder / name).exists() for name in identity.NOT_COMPUTING)


def test_a_record_gives_the_identity_back() -> None:
    found = identity_of(load_predictor("threshold"), edge=0.5)
    record = json.loads(json.dumps(found.record()))
    assert Identity.from_record(record) == found
    assert record["sha256"].startswith(found.short) and len(found.short) == 12
    with pytest.raises(ValueError, match="own hash"):
        Identity.from_record({**record, "backend": "another"})
    with pytest.raises(ValueError, match='"backend" of its identity is 3, not text'):
        Identity.from_record({**record, "backend": 3})


def test_a_record_that_a_browser_kept_is_of_the_same_identity() -> None:
    found = identity_of(load_predictor("threshold"), crop_sides=3.0, edge=True)
    kept = json.loads(json.dumps(found.record()).replace("3.0", "3"))  # as JavaScript writes it
    again = Identity.from_record(kept)
    assert again == found and again.differences(found) == []


# Records that are run again


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    scan = phantoms.save_nifti(tmp_path / "scan.nii.gz", phantoms.head_hu()[0])
    return recorded(scan, adapter(tmp_path / "adapter"))


def recorded(scan: Path, model: str) -> dict[str, Any]:
    volume, predictor = read_volume(scan), load_predictor(model)
    marked, _ = cohort.predict(volume, cohort.parse_boxes(f"3:{BOX}"), predictor)
    return segmentation_record(
        volume,
        marked,
        model=predictor.name,
        weights_sha256=predictor.weights_sha256,
        second_look=False,
        identity=identity_of(predictor, refinement=False),
    )


def loaded(tmp_path: Path, record: dict[str, Any]) -> SessionRecord:
    path = tmp_path / "session.json"
    path.write_bytes(json_bytes(record))
    return load_session(path)


def test_a_record_is_run_again_with_its_own_model_alone(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    session, folder = loaded(tmp_path, record), tmp_path / "adapter"
    assert session.check_model(load_predictor(str(folder))) == []
    catalogue._LOADED.clear()
    (folder / "training.json").write_text(json.dumps({"inference": {"crop_sides": 2.0}}))
    with pytest.raises(InputError, match=r"crop_sides 3\.0, and has 2\.0"):
        session.check_model(load_predictor(str(folder)))
    catalogue._LOADED.clear()
    shutil.rmtree(folder)
    adapter(folder, alpha=64)
    with pytest.raises(InputError, match=r"its own weights.*adapter_config\.json"):
        session.check_model(load_predictor(str(folder)))


def test_what_changed_since_a_record_was_made_is_said(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    session = loaded(tmp_path, record)
    assert session.identity is not None
    packages = {**session.identity.packages, "numpy": "1.0"}
    changed = replace(session.identity, packages=packages, code_sha256="ab" * 32)
    (note,) = replace(session, identity=changed).check_model(load_predictor(session.model))
    assert "numpy 1.0 and " + np.__version__ in note
    assert "the program (abababababab and " + code_sha256()[:12] in note
    assert same_mask_note(False, [note]).endswith("voxels.")
    assert "processor" in same_mask_note(False, [])


def test_an_older_record_says_what_it_cannot_know(tmp_path: Path, record: dict[str, Any]) -> None:
    del record["identity"]
    record["schema_version"] = 2
    record["weights_sha256"] = {
        file: sha for file, sha in record["weights_sha256"].items() if "config" not in file
    }
    session = loaded(tmp_path, record)
    assert session.check_model(load_predictor(session.model)) == [BEFORE_IDENTITY]
    record["weights_sha256"]["adapter/adapter_model.safetensors"] = "cd" * 32
    with pytest.raises(InputError, match="its own weights"):
        loaded(tmp_path, record).check_model(load_predictor(session.model))


# Many scans


def test_a_cohort_keeps_no_mask_of_another_adapter(tmp_path: Path) -> None:
    scan = phantoms.save_nifti(tmp_path / "scan.nii.gz", phantoms.head_hu()[0])
    entry = cohort.Entry(1, scan.name, scan, boxes=f"3:{BOX}")
    model, out = adapter(tmp_path / "adapter"), tmp_path / "out"

    def states() -> list[str]:
        catalogue._LOADED.clear()  # another run
        return [one.state for one in cohort.run([cohort.Segment(entry, out, model)])]

    assert (states(), states()) == (["done"], ["kept"])
    shutil.rmtree(model)
    adapter(Path(model), alpha=64)
    assert (states(), states()) == (["done"], ["kept"])
    (Path(model) / "training.json").write_text(json.dumps({"inference": {"second_look": True}}))
    assert states() == ["done"]
    found = json.loads((out / "scan-0001.json").read_text())
    assert found["identity"]["settings"]["refinement"] is True


@pytest.mark.usefixtures("fresh_code")
def test_a_cohort_keeps_no_mask_of_another_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = phantoms.save_nifti(tmp_path / "scan.nii.gz", phantoms.head_hu()[0])
    entry = cohort.Entry(1, scan.name, scan, boxes=f"3:{BOX}")
    job = cohort.Segment(entry, tmp_path / "out", "threshold")
    assert [one.state for one in cohort.run([job])] == ["done"]
    monkeypatch.setattr(identity, "code_sha256", lambda: "another")
    assert [one.state for one in cohort.run([job])] == ["done"]
