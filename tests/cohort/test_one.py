"""One scan in one call: ``ichseg.segment`` gives the closed form, and the mask of page and command line."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest
from PIL import Image
from rich.pretty import pretty_repr
from typer.testing import CliRunner

import ichseg
from ichseg.cli.main import app
from ichseg.cohort import Segmented
from ichseg.errors import BoxError, InputError, VolumeError, WeightsError
from ichseg.files.nifti_mask import read_mask
from ichseg.files.session import load_session
from ichseg.methods import catalogue
from ichseg.methods.method import Method
from ichseg.methods.predictor import SliceEmbedding, SliceMasks
from ichseg.methods.threshold import ThresholdPredictor
from ichseg.page.controller import Controller
from ichseg.page.embeddings import Embeddings
from ichseg.scan.volume import CTVolume
from tests.pages import Page, rested

BOX = (8.0, 6.0, 30.0, 26.0)


def head() -> CTVolume:
    """Seven slices of 5 mm; blood on slices 2 to 4, columns 10 to 27 and rows 8 to 23 of 0.5 mm."""
    volume = phantoms.scan(tuple(5.0 * k for k in range(7)), (40, 44))
    hu_zyx = volume.hu_zyx.copy()
    hu_zyx[2:5, 8:24, 10:28] = phantoms.BLOOD_HU
    return CTVolume(hu_zyx, volume.geometry, "head")


#: A 3 x 3 median rounds the four corners of each slice off.
SLICE_ML = (18 * 16 - 4) * 0.5 * 0.5 * 5 / 1000


def test_the_volume_is_the_closed_form_on_the_boxed_slices_and_of_the_whole() -> None:
    shares: list[float] = []
    boxed = ichseg.segment(head(), {3: [BOX]}, model="threshold", progress=shares.append)
    assert boxed.volume_ml == pytest.approx(SLICE_ML) and shares == [1.0]
    whole = ichseg.segment(
        head(), {3: [BOX]}, model="threshold", propagate=True, progress=shares.append
    )
    assert whole.volume_ml == pytest.approx(3 * SLICE_ML)
    assert shares[1:] == sorted(shares[1:]) and shares[-1] == 1.0
    assert np.flatnonzero(whole.mask_zyx.any(axis=(1, 2))).tolist() == [2, 3, 4]
    assert whole.mask_zyx.dtype == bool and whole.labels_zyx.max() == 1
    assert sorted(stop.slice_index for stop in whole.stops) == [2, 4]


def test_several_lesions_are_measured_one_by_one() -> None:
    left, right = (8, 6, 19, 26), (19, 6, 30, 26)
    found = ichseg.segment(head(), {"a": {3: [left]}, "b": {3: [right]}}, model="threshold")
    assert set(np.unique(found.labels_zyx)) == {0, 1, 2}
    table = found.to_dataframe()
    assert table["lesion"].tolist() == [1, 2]
    assert table["volume_ml"].sum() == pytest.approx(found.volume_ml, abs=1e-3)


def test_its_table_record_and_files_are_the_command_lines(tmp_path: Path) -> None:
    scan = phantoms.save_nifti(tmp_path / "scan.nii.gz", head().hu_zyx)
    volume = ichseg.read_volume(scan)
    for propagate in (False, True):
        found = ichseg.segment(volume, {3: [BOX]}, model="threshold", propagate=propagate)
        mask = tmp_path / "mask.nii.gz"
        asked = ["segment", str(scan), "--slice", "3", "--box", ",".join(map(str, BOX))]
        asked += [
            "--model",
            "threshold",
            "--json",
            "--out",
            str(mask),
            *["--propagate"] * propagate,
        ]
        run = CliRunner().invoke(app, asked)
        assert run.exit_code == 0, run.output
        assert json.loads(run.stdout) == found.record()
        np.testing.assert_array_equal(read_mask(mask, volume), found.labels_zyx)
        written = found.save(tmp_path / "own.nii.gz")
        assert written == [tmp_path / "own.nii.gz"]
        assert written[0].read_bytes() == mask.read_bytes()
    table = found.to_dataframe("slices")
    assert table["slice_index"].tolist() == [2, 3, 4]
    assert table["volume_ml"].sum() == pytest.approx(found.volume_ml, abs=1e-3)
    (tmp_path / "record.json").write_text(json.dumps(found.record()))
    again = load_session(tmp_path / "record.json").run(found.predictor, volume)
    np.testing.assert_array_equal(again.labels_zyx("threshold"), found.labels_zyx)


def test_it_says_itself_in_a_line_and_shows_itself_as_a_picture() -> None:
    found = ichseg.segment(head(), {3: [BOX]}, model="threshold")
    assert repr(found) == f"<Segmented by threshold: {SLICE_ML:.2f} mL on slices 3 to 3>"
    assert "slices=[3]" in pretty_repr(found) and "volume_ml=0.35" in pretty_repr(found)
    picture = Image.open(io.BytesIO(found._repr_png_()))
    assert picture.format == "PNG" and picture.width == 44
    empty = ichseg.segment(head(), {0: [BOX]}, model="threshold")
    assert "on no slice" in repr(empty) and empty.largest_slice == 0 and empty._repr_png_()


class Twice(ThresholdPredictor):
    """A threshold whose refinement leaves out the mask's upper half."""

    second_look = True

    def predict(
        self, embedding: SliceEmbedding, boxes: Any, *, second_look: bool | None = None
    ) -> SliceMasks:
        found = super().predict(embedding, boxes)
        if second_look is not False:
            found.masks[:, :16] = False
        return found


@pytest.mark.parametrize("propagate", [False, True])
def test_the_mask_is_the_pages_voxel_for_voxel(
    propagate: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a method with a refinement: it is of a person's boxes, and not of what a propagation asks."""
    model = Twice()
    row = Method("threshold", "Threshold", "A fake.", lambda *_: model)
    monkeypatch.setattr(catalogue, "CATALOGUE", {"threshold": row})
    monkeypatch.setattr(catalogue, "default_model", lambda: "threshold")
    monkeypatch.setattr(catalogue, "default_baseline", lambda: "threshold")
    page_controller = Controller(
        tmp_path, embeddings=Embeddings(lambda _: model), read=lambda path, **_: head()
    )
    page = Page(page_controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=3, boxes=[list(BOX)])
    rested(page_controller, page, 3)
    if propagate:
        page.ask("propagate", lesion=1)
    case = page_controller.store.get("x").case
    assert case is not None
    shown = case.segmentation.labels_zyx("threshold")
    found = ichseg.segment(head(), {3: [BOX]}, model=model, propagate=propagate)
    np.testing.assert_array_equal(found.labels_zyx, shown)
    assert not shown[3, :16].any() and shown[3].any()
    assert shown[2, :16].any() == propagate
    page_controller.close()


def test_its_range_is_of_the_boxes_or_of_the_propagations_and_scaled_to_a_refined_volume() -> None:
    def around(found: Segmented) -> Mapping[int | None, Any]:
        return found.assessment().ranges

    boxed = ichseg.segment(head(), {3: [BOX]}, model="threshold")
    (lesion, blood) = (around(boxed)[1], around(boxed)[None])
    assert lesion == blood and len(lesion.draws_ml) == 16 and not lesion.from_slices
    assert lesion.low_ml <= boxed.volume_ml <= lesion.high_ml and not lesion.carried_over
    whole = ichseg.segment(head(), {3: [BOX]}, model="threshold", propagate=True)
    assert around(whole)[1].from_slices == (2, 3, 4)
    refined = ichseg.segment(head(), {3: [BOX]}, model=Twice())
    assert around(refined)[1].carried_over
    assert around(refined)[1].median_ml == pytest.approx(refined.volume_ml)
    assert not boxed.assessment(with_range=False).ranges


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ({}, "a box for each lesion; got none"),
        ({3: []}, "a box for each lesion; got none"),
        ({1: {3: [BOX]}, 2: {}}, "a box for each lesion; got none"),
        ([BOX], "given by slice"),
        ({3: [BOX], 4: {3: [BOX]}}, "given by slice"),
        ({"3": [BOX]}, "whole number from 0; got '3'"),
        ({7: [BOX]}, "slices 0 to 6; got 7"),
        ({3: [(1, 2, 3)]}, "four numbers"),
        ({3: BOX}, "four numbers"),
        ({3: ["wide"]}, "list of boxes"),
        ({3: 5}, "list of boxes"),
        ({3: [(9, 9, 1, 1)]}, "upper left to its lower right"),
        ({3: [(float("nan"), 0, 1, 1)]}, "finite"),
    ],
)
def test_bad_boxes_are_refused_in_a_sentence_before_a_model_is_loaded(
    boxes: Any, words: str
) -> None:
    with pytest.raises(BoxError, match=words):
        ichseg.segment(head(), boxes, model="none of them")


def test_other_bad_input_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VolumeError, match=r"got str; read it first: ichseg\.read_volume"):
        ichseg.segment("head.nii.gz", {3: [BOX]})  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match="got 'none of them'"):
        ichseg.segment(head(), {3: [BOX]}, model="none of them")
    for propagate in (False, True):
        with pytest.raises(InputError, match="was stopped on the way"):
            ichseg.segment(
                head(), {3: [BOX]}, model="threshold", propagate=propagate, cancelled=lambda: True
            )
    found = ichseg.segment(head(), {3: [BOX]}, model="threshold")
    with pytest.raises(InputError, match="lesions or slices; got 'pieces'"):
        found.to_dataframe("pieces")  # type: ignore[arg-type]
    with pytest.raises(BoxError, match="slices 0 to 6; got 7"):
        found.picture_png(7)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(InputError, match=r"pip install 'ichseg\[dataframe\]'"):
        found.to_dataframe()
