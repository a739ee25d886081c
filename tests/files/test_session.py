"""What leaves the program: the table, the archive of slices, the picture, and the record of a session."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import phantoms
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage

from ichseg import NOTICE, __version__
from ichseg.errors import InputError, VolumeError
from ichseg.files.archive import slices_zip
from ichseg.files.names import (
    LESIONS_NAME,
    MASK,
    SESSION,
    SLICES,
    mask_name,
    picture_ending,
    with_label,
)
from ichseg.files.nifti_mask import read_mask
from ichseg.files.picture import render_slice, slice_png
from ichseg.files.records import json_bytes, scan_record
from ichseg.files.session import SCHEMA_VERSION, load_session, segmentation_record, session_record
from ichseg.files.sidecar import read_lesions
from ichseg.files.tables import slices_csv
from ichseg.files.write import save_mask
from ichseg.json_fields import RecordError
from ichseg.marks import edit
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.marks.lesion import Lesion
from ichseg.marks.reading import Part
from ichseg.marks.record import Edit
from ichseg.methods.edge_step import step_of
from ichseg.methods.follow_rule import Rule
from ichseg.methods.predictor import SliceMasks
from ichseg.methods.propagation import propagate
from ichseg.methods.rule_record import rule_of
from ichseg.methods.threshold import ThresholdPredictor
from ichseg.replace_file import write_whole
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume, content_sha256

UNEVEN_MM = (0, 4, 8, 15)
BOXES = {2: (Box(1, 2, 9, 8.5), Box(10, 2, 12, 4)), 1: (Box(0, 0, 4, 4),)}


def marked(volume: CTVolume) -> npt.NDArray[np.bool_]:
    """Ten pixels on slice 1, twenty on the last."""
    mask = np.zeros(volume.shape_zyx, dtype=bool)
    mask[1, 3, 2:12] = True
    mask[-1, 4:6, 2:12] = True
    return mask


def record(volume: CTVolume) -> dict[str, Any]:
    return session_record(
        volume,
        BOXES,
        marked(volume),
        model="litemedsam",
        weights_sha256={"litemedsam/model.safetensors": "ab" * 32},
        second_look=False,
    )


def saved(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "hematoma-session.json"
    path.write_text(json.dumps(document))
    return path


# The table


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def doubtful(volume: CTVolume) -> CTVolume:
    return replace(volume, warnings=("The voxel's size is in doubt.", "A slice is missing."))


def test_the_table_has_a_row_for_each_slice_of_each_lesion_and_no_other_row() -> None:
    volume = doubtful(with_label(phantoms.scan(UNEVEN_MM), "ward-3"))
    labels = marked(volume).astype(np.uint8)
    labels[-1, 5] *= 2
    lesions = [Lesion(1, "Left"), Lesion(2, "=rim", type="oedema"), Lesion(3)]
    rows = rows_of(slices_csv(labels, volume, lesions, method="threshold"))
    same = {
        "scan": "ward-3",
        "scan_sha256": volume.sha256,
        "method": "threshold",
        "warnings": "The voxel's size is in doubt. A slice is missing.",
        "notice": NOTICE,
    }
    first = {"lesion": "1", "name": "Left", "type": "unspecified", "is_blood": "yes"}
    second = {"lesion": "2", "name": "'=rim", "type": "oedema", "is_blood": "no"}
    names = ("slice", "slice_index", "area_mm2", "height_mm", "volume_ml")
    assert rows == [
        same | lesion | dict(zip(names, numbers, strict=True))
        for lesion, numbers in (
            (first, ("2", "1", "2.5000", "4.0000", "0.0100")),
            (first, ("4", "3", "2.5000", "7.0000", "0.0175")),
            (second, ("4", "3", "2.5000", "7.0000", "0.0175")),
        )
    ]


def test_the_table_of_a_plain_mask_is_of_one_lesion_and_of_none_has_no_row() -> None:
    volume = phantoms.scan(UNEVEN_MM)
    rows = rows_of(slices_csv(marked(volume) * 7, volume))
    assert [(row["lesion"], row["name"], row["is_blood"]) for row in rows] == [
        ("1", "Lesion 1", "yes"),
    ] * 2
    assert sum(float(row["volume_ml"]) for row in rows) == pytest.approx(0.045)
    assert rows_of(slices_csv(np.zeros(volume.shape_zyx), volume)) == []


# Names


def test_every_file_is_named_after_its_scan() -> None:
    volume, other = phantoms.scan(), phantoms.scan(UNEVEN_MM)
    assert mask_name(volume) == f"hematoma-{volume.sha256[:8]}-mask.nii.gz"
    assert mask_name(other) == f"hematoma-{other.sha256[:8]}-mask-slices.zip"
    assert mask_name(with_label(other, " A_1 ")) == "hematoma-A_1-mask-slices.zip"
    assert with_label(other, "").called == other.sha256[:8]
    assert scan_record(with_label(other, "A"))["label"] == "A"


@pytest.mark.parametrize(
    "label", ["a b", "a/b", "..", "-a", "a-", "a" * 25, "Müller", "a.b", "=1", "a\nb", "$(x)"]
)
def test_a_label_is_short_and_safe_everywhere(label: str) -> None:
    with pytest.raises(InputError, match="never a patient's name"):
        with_label(phantoms.scan(), label)


# The archive of slices


def test_the_archive_holds_every_slice_as_a_picture_and_the_table() -> None:
    volume = phantoms.scan(UNEVEN_MM, shape_yx=(9, 14))
    mask = marked(volume)
    with zipfile.ZipFile(io.BytesIO(slices_zip(mask, volume))) as archive:
        names = archive.namelist()
        pictures = {
            name: Image.open(io.BytesIO(archive.read(name))) for name in names if "png" in name
        }
        table, readme = archive.read(SLICES), archive.read("README.txt").decode()
    assert sorted(pictures) == ["mask-001.png", "mask-002.png", "mask-003.png", "mask-004.png"]
    assert len(names) == 7
    for k, name in enumerate(sorted(pictures)):
        assert pictures[name].mode == "L"
        np.testing.assert_array_equal(np.asarray(pictures[name]), mask[k] * 255)
        assert NOTICE in pictures[name].text.values()  # type: ignore[attr-defined]
    assert table == slices_csv(mask, volume)
    assert NOTICE in readme


def test_the_archive_is_the_same_bytes_each_time_and_bears_no_date() -> None:
    volume = phantoms.scan(UNEVEN_MM)
    content = slices_zip(marked(volume), volume)
    assert content == slices_zip(marked(volume), volume)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}


# The mask


def test_an_even_scan_gets_nifti_and_an_uneven_one_the_archive(tmp_path: Path) -> None:
    even, uneven = phantoms.scan(), phantoms.scan(UNEVEN_MM)
    for volume in (even, uneven):
        path = tmp_path / mask_name(volume)
        save_mask(path, marked(volume), volume)
        if volume is even:
            np.testing.assert_array_equal(read_mask(path, volume), marked(volume))
        else:
            assert path.read_bytes() == slices_zip(marked(volume), volume)


@pytest.mark.parametrize(
    ("name", "positions_mm", "error", "sentence"),
    [
        ("m.nii.gz", UNEVEN_MM, VolumeError, r"\.nii\.gz holds evenly .* hematoma-\w{8}-mask-slices\.zip"),
        ("m.png", (0, 5, 10, 15), InputError, r"\.mha or \.zip .* got m\.png; name it"),
        ("no/m.zip", (0, 5, 10, 15), InputError, r"m\.zip there is no folder no; make it"),
    ],
)  # fmt: skip
def test_a_mask_that_cannot_be_written_is_refused_before_anything_is(
    tmp_path: Path, name: str, positions_mm: tuple[float, ...], error: type, sentence: str
) -> None:
    volume = phantoms.scan(positions_mm)
    with pytest.raises(error, match=sentence):
        save_mask(tmp_path / name, marked(volume), volume)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["taken.nii.gz", "taken.zip"])
def test_a_place_that_cannot_be_written_is_said_in_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    volume = phantoms.scan()
    with pytest.raises(InputError, match=rf"ordinary file; {name} is a folder; give"):
        save_mask(tmp_path / name, marked(volume), volume)


# The picture


def test_the_picture_is_the_rendered_slice_with_the_notice_drawn_and_written() -> None:
    volume = phantoms.scan(shape_yx=(64, 80))
    mask_yx = np.zeros((64, 80), dtype=bool)
    mask_yx[20:30, 20:30] = True
    content = slice_png(
        volume, 1, mask_yx=mask_yx, boxes=[Box(15, 15, 40, 40)], caption="LiteMedSAM 1.2 mL"
    )
    picture = Image.open(io.BytesIO(content))
    assert picture.format == "PNG" and picture.mode == "RGB"
    assert picture.text["Disclaimer"] == NOTICE  # type: ignore[attr-defined]
    bare = render_slice(volume, 1, mask_yx=mask_yx, boxes=[Box(15, 15, 40, 40)], scale=2)
    shown = np.asarray(picture)
    np.testing.assert_array_equal(shown[:128], bare)
    assert shown.shape[1] == 160 and shown[128:].any()


def test_pictures_are_numbered_as_people_count() -> None:
    assert picture_ending(0) == "slice-001.png"
    assert picture_ending(27) == "slice-028.png"


def test_warnings_stand_below_the_picture_and_in_its_text_a_long_one_on_several_lines() -> None:
    volume = phantoms.scan(shape_yx=(64, 80))
    plain = Image.open(io.BytesIO(slice_png(volume, 1)))
    picture = Image.open(io.BytesIO(slice_png(doubtful(volume), 1)))
    assert picture.text["Warning"] == "The voxel's size is in doubt. A slice is missing."  # type: ignore[attr-defined]
    assert picture.width == plain.width and picture.height >= plain.height + 2 * 9
    margins = np.asarray(picture)[128:, [0, -1]]
    assert (margins == margins[0, 0]).all(), "no line runs off the picture"


def test_the_archive_and_the_list_of_lesions_say_the_warnings(tmp_path: Path) -> None:
    volume = doubtful(phantoms.scan())
    labels = marked(volume).astype(np.uint8)
    with zipfile.ZipFile(io.BytesIO(slices_zip(labels, volume, [Lesion(1)]))) as archive:
        readme = archive.read("README.txt").decode()
        assert "Warning: The voxel's size is in doubt." in readme and "A slice is miss" in readme
        assert json.loads(archive.read(LESIONS_NAME))["warnings"] == list(volume.warnings)
    save_mask(tmp_path / "m.nii.gz", labels, volume, [Lesion(1, type="SDH")])
    beside = json.loads((tmp_path / "m-lesions.json").read_text())
    assert (beside["warnings"], beside["scan_sha256"]) == (list(volume.warnings), volume.sha256)
    assert record(volume)["scan"]["warnings"] == list(volume.warnings)


# The record


def test_a_record_says_what_was_done_on_what_with_what() -> None:
    volume = phantoms.scan(UNEVEN_MM, spacing_yx_mm=(0.5, 0.4), tilt_degrees=10, notes=("tilted",))
    document = record(volume)
    assert document["schema_version"] == SCHEMA_VERSION
    scan = document["scan"]
    assert scan["shape_zyx"] == [4, 12, 16]
    assert scan["slice_heights_mm"] == pytest.approx(
        np.array([4, 4, 5.5, 7]) * np.cos(np.radians(10))
    )
    assert scan["spacing_mm"] == pytest.approx([4.75 * np.cos(np.radians(10)), 0.5, 0.4])
    assert scan["tilt_degrees"] == pytest.approx(10)
    assert (scan["evenly_spaced"], scan["notes"]) == (False, ["tilted"])
    assert document["boxes"] == [
        {"slice": 1, "box_xyxy": [0, 0, 4, 4]},
        {"slice": 2, "box_xyxy": [1, 2, 9, 8.5]},
        {"slice": 2, "box_xyxy": [10, 2, 12, 4]},
    ]
    assert document["model"] == "litemedsam"
    assert document["weights_sha256"] == {"litemedsam/model.safetensors": "ab" * 32}
    assert document["volume_ml"] == pytest.approx(sum(r["volume_ml"] for r in document["slices"]))
    assert document["versions"]["ichseg"] == __version__
    assert {"python", "numpy", "torch"} <= set(document["versions"])
    assert document["notice"] == NOTICE


def test_a_record_comes_back_from_its_file(tmp_path: Path) -> None:
    volume = phantoms.scan(UNEVEN_MM)
    document = record(volume)
    path = tmp_path / SESSION
    write_whole(path, json_bytes(document))
    session = load_session(path)
    assert session.boxes == BOXES
    assert (session.model, session.second_look) == ("litemedsam", False)
    assert session.shape_zyx == volume.shape_zyx
    assert session.mask_sha256 == content_sha256(marked(volume))
    session.check_scan(volume)
    session.check_weights(document["weights_sha256"])


def test_a_record_is_refused_on_another_scan(tmp_path: Path) -> None:
    volume = phantoms.scan()
    session = load_session(saved(tmp_path, record(volume)))
    hu_zyx = volume.hu_zyx.copy()
    hu_zyx[3, 11, 15] += 1
    other = CTVolume(hu_zyx, volume.geometry, "other")
    expected, got = (content_sha256(v.hu_zyx)[:12] for v in (volume, other))
    sentence = rf"SHA-256 {expected}; those of other have {got}; open that scan"
    with pytest.raises(InputError, match=sentence):
        session.check_scan(other)


def test_a_record_is_refused_with_other_weights(tmp_path: Path) -> None:
    session = load_session(saved(tmp_path, record(phantoms.scan())))
    with pytest.raises(
        InputError, match=r"expected litemedsam/model\.safetensors abab.*, got none; fetch"
    ):
        session.check_weights({})
    with pytest.raises(InputError, match=r"got litemedsam/model\.safetensors cdcdcdcdcdcd; fetch"):
        session.check_weights({"litemedsam/model.safetensors": "cd" * 32})


def change(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """An edit of one entry of a record, by its dotted path; ... removes it."""
    *inner, last = path.split(".")

    def edit(document: dict[str, Any]) -> None:
        for key in inner:
            document = document[int(key) if key.isdigit() else key]
        if value is ...:
            del document[last]
        else:
            document[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (change("schema_version", ...), "it has no schema_version"),
        (change("schema_version", "one"), "it has no schema_version"),
        (change("schema_version", 5), "up to schema 4; hematoma-session.json has 5; update"),
        (change("scan", ...), 'it has no "scan"'),
        (change("scan.shape_zyx", [4, 12]), '"shape_zyx" of its scan has 2 numbers, not 3'),
        (change("boxes", 5), 'its "boxes" is 5, not a list'),
        (change("boxes.0.slice", 4), "slice 4 of 4"),
        (change("boxes.0.slice", 1.5), '"slice" of a box is 1.5, not a whole number'),
        (change("boxes.0.box_xyxy", [1, 2, 3]), "a box has 3 numbers"),
        (change("boxes.0.box_xyxy", [9, 2, 3, 4]), "got 9, 2, 3, 4; exchange"),
        (change("boxes.0.box_xyxy", [90, 2, 93, 4]), "wholly outside"),
        (
            change("boxes.0.box_xyxy", [float("nan"), 2, 3, 4]),
            "a side of a box is NaN, not a number",
        ),
        (change("model", ...), 'it has no "model"'),
        (change("model", 7), 'its "model" is 7, not text'),
        (change("weights_sha256", "abab"), 'its "weights_sha256" is "abab", not an object'),
        (change("second_look", "yes"), 'its "second_look" is "yes", not true or false'),
    ],
)
def test_a_damaged_record_is_refused_with_its_name(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None], why: str
) -> None:
    document = record(phantoms.scan())
    edit(document)
    with pytest.raises(InputError, match=re.escape(why)) as refused:
        load_session(saved(tmp_path, document))
    assert "hematoma-session.json" in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


STOP = {
    "slice": 2,
    "direction": 1,
    "reason": "hu",
    "value": 3.0,
    "threshold": None,
    "sentence": "stopped above slice 3",
}


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"rule": {"further_looks": 200_000}}, "is 0 to 10, not 200000"),
        ({"rule": {"further_looks": -1}}, "is 0 to 10, not -1"),
        ({"rule": {"further_looks": 1.5}}, "not a whole number"),
        ({"rule": {"reach_mm": 1e9}}, "is 0 to 100, not 1e+09"),
        ({"rule": {"least_iou": "all"}}, "not a number"),
        ({"rule": {"least_iou": None}}, "not a number"),
        ({"rule": {"least_likeness": 1.5}}, "is -1 to 1, not 1.5"),
        ({"rule": {"patience": 3}}, "has no 'patience'"),
        ({"rule": [2]}, "not an object"),
        ({"stops": [STOP] * 65}, "at most 64 stops, not 65"),
        ({"stops": [{**STOP, "reason": "because"}]}, "is none that a rule gives"),
        ({"stops": [{**STOP, "sentence": "x" * 5000}]}, "is none that a rule gives"),
        ({"stops": [7]}, "not an object"),
    ],
)
def test_what_a_record_says_of_a_propagation_is_bounded(
    tmp_path: Path, parameters: dict[str, Any], why: str
) -> None:
    document = record(phantoms.scan())
    document["lesions"] = [{"id": 1, "name": "A", "type": "unspecified", "colour": "#E69F00"}]
    part = {"lesion": 1, "boxes": [], "parameters": {"rule": {"margin_mm": 3}, "stops": [STOP]}}
    document["propagated"] = [part]
    assert load_session(saved(tmp_path, document)).parameters[1]["rule"]["margin_mm"] == 3
    part["parameters"] = parameters
    with pytest.raises(InputError, match=re.escape(why)):
        load_session(saved(tmp_path, document))


def test_a_record_asks_for_no_more_than_a_person_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = record(phantoms.scan())
    box = document["boxes"][0]
    document["boxes"] = [box] * 257
    with pytest.raises(InputError, match="more than 256 boxes of a lesion"):
        load_session(saved(tmp_path, document))
    document["boxes"] = [box] * 20_001
    with pytest.raises(InputError, match="20,001 boxes, more than 20,000"):
        load_session(saved(tmp_path, document))
    document["boxes"] = []
    document["lesions"] = [{"id": 1, "name": "A", "type": "unspecified", "colour": "#E69F00"}]
    edit_of_1 = {"slice": 1, "lesion": 1, "origin": "edited", "runs": "3 4"}
    document["edits"] = [edit_of_1] * 2
    with pytest.raises(InputError, match="slice 1 has two edits of lesion 1"):
        load_session(saved(tmp_path, document))
    monkeypatch.setattr("ichseg.json_fields.MAX_JSON_BYTES", 100)
    with pytest.raises(InputError, match="larger than 0 MiB"):
        load_session(saved(tmp_path, document))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[]", "no schema_version"),
        (b"", "not JSON"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"notes\.txt is not: .*{why}"):
        load_session(path)
    with pytest.raises(InputError, match=r"absent\.json cannot \(No such file"):
        load_session(tmp_path / "absent.json")


# The record of a segmentation


class Boxed(ThresholdPredictor):
    """The threshold method, which notes how it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bool | None]] = []

    def predict(self, embedding: Any, boxes: Any, *, second_look: bool | None = None) -> SliceMasks:
        self.asked.append((len(boxes), second_look))
        return super().predict(embedding, boxes, second_look=second_look)


def tilted_uneven_scan() -> CTVolume:
    """A head with blood, the gantry tilted and the slices 5 and 7 mm apart."""
    hu_zyx, _ = phantoms.head_hu()
    where = phantoms.geometry((0, 5, 10, 15, 20, 27, 34, 41), (3.0, 2.5), tilt_degrees=18)
    return CTVolume(hu_zyx, where, name="phantom")


def predicted(
    volume: CTVolume, predictor: Boxed, k: int, boxes: list[Box]
) -> npt.NDArray[np.bool_]:
    return predictor.predict(predictor.embed(volume.hu_zyx[k]), boxes).union


HALF, REST, AROUND = Box(32, 20, 40, 34), Box(36, 20, 49, 34), Box(30, 18, 51, 36)


def corrected(volume: CTVolume, predictor: Boxed) -> Segmentation:
    """Two lesions, boxed, propagated, overlapping, brushed and imported, as a session may leave them."""
    marked = Segmentation(volume.shape_zyx)
    name = predictor.name
    marked.set_lesion(1, name="Right putamen", type="IPH")
    marked.add_lesion(type="IVH")
    marked.add_lesion(type="oedema", name="Saum \u00e4")
    mask = predicted(volume, predictor, 3, [HALF])
    marked.set_boxes(3, 1, [HALF], {name: mask, "litemedsam": ~mask})
    propagated = {k: predicted(volume, predictor, k, [AROUND]) for k in (1, 2, 4, 5)}  # 1 is empty
    parameters = {"margin_mm": 2.5, "second_look": False}
    marked.set_propagated(propagated, 1, name, {k: [AROUND] for k in propagated}, parameters)
    marked.set_boxes(2, 2, [REST], {name: predicted(volume, predictor, 2, [REST])})  # takes from 1
    marked.set_boxes(3, 2, [REST], {name: predicted(volume, predictor, 3, [REST])})
    marked.apply_edit(
        4, 1, edit.erase(marked.slice_mask(name, 4, 1), [(38, 26)], 9.0, (3.0, 2.5)), name
    )
    marked.apply_edit(0, 3, edit.stroke((64, 64), [(2, 2), (40, 60)], 4.0, (3.0, 2.5)), name)
    marked.set_lesion(3, locked=True, visible=False, colour="#123abc")
    return marked


def document_of(volume: CTVolume, marked: Segmentation, model: str = "threshold") -> dict[str, Any]:
    return segmentation_record(volume, marked, model=model, weights_sha256={}, second_look=True)


def test_a_segmentation_is_made_again_from_its_record_bit_for_bit(tmp_path: Path) -> None:
    volume, predictor = tilted_uneven_scan(), Boxed()
    marked = corrected(volume, predictor)
    document = document_of(volume, marked)
    session = load_session(saved(tmp_path, document))
    session.check_scan(volume)
    predictor.asked.clear()
    done: list[float] = []
    again = session.run(predictor, volume, progress=done.append)
    np.testing.assert_array_equal(again.labels_zyx("threshold"), marked.labels_zyx("threshold"))
    assert session.is_same(again, "threshold") is True
    assert again.lesions == marked.lesions and again.prompts() == marked.prompts()
    assert again.parameters("threshold") == {"margin_mm": 2.5, "second_look": False}
    assert [again.origin(k, 1) for k in range(7)] == [
        *(None, None, "propagated", "box", "edited", "propagated", None)
    ]
    assert document_of(volume, again) == document, "and gives the same record"
    # Slice 5 by propagation, and both boxes of lesion 2; on slices 2 and 3 lesion 1 lost voxels to it.
    assert sorted(predictor.asked) == [(1, False), (1, True), (1, True)]
    assert done == pytest.approx([1 / 3, 2 / 3, 1])
    again.apply_edit(3, 2, np.zeros((64, 64), dtype=bool), "threshold")
    assert session.is_same(again, "threshold") is False


def test_a_record_of_a_segmentation_says_all_of_it() -> None:
    volume, predictor = tilted_uneven_scan(), Boxed()
    marked = corrected(volume, predictor)
    document = document_of(volume, marked)
    assert document["schema_version"] == SCHEMA_VERSION
    assert document["notice"] == NOTICE
    labels = marked.labels_zyx("threshold")
    assert [
        (row["id"], row["name"], row["type"], row["locked"], row["visible"])
        for row in document["lesions"]
    ] == [
        (1, "Right putamen", "IPH", False, True),
        (2, "Lesion 2", "IVH", False, True),
        (3, "Saum ä", "oedema", True, False),
    ]
    for row in document["lesions"]:
        counts = np.count_nonzero(labels == row["id"], axis=(1, 2))
        heights_mm = np.array([5, 5, 5, 5, 6, 7, 7, 7]) * np.cos(np.radians(18))
        assert row["volume_ml"] == pytest.approx(counts @ heights_mm * 3.0 * 2.5 / 1000)
    blood_ml = sum(row["volume_ml"] for row in document["lesions"][:2])
    assert document["volume_ml"] == pytest.approx(blood_ml), "oedema is no blood"
    assert document["volume_ml"] == pytest.approx(sum(r["volume_ml"] for r in document["slices"]))
    assert document["boxes"] == [
        {"slice": 2, "lesion": 2, "box_xyxy": [36, 20, 49, 34]},
        {"slice": 3, "lesion": 1, "box_xyxy": [32, 20, 40, 34]},
        {"slice": 3, "lesion": 2, "box_xyxy": [36, 20, 49, 34]},
    ]
    (propagated,) = document["propagated"]
    assert (propagated["lesion"], propagated["parameters"]["margin_mm"]) == (1, 2.5)
    assert [row["slice"] for row in propagated["boxes"]] == [5]
    edits = {(row["slice"], row["lesion"]): row["origin"] for row in document["edits"]}
    assert edits == {
        (0, 3): "edited",
        (2, 1): "propagated",
        (3, 1): "box",
        (4, 1): "edited",
    }
    assert document["mask_sha256"] == content_sha256((labels == 1) | (labels == 2))
    assert document["labels_sha256"] == content_sha256(labels)


def test_the_record_of_the_other_pane_knows_nothing_of_the_corrections(tmp_path: Path) -> None:
    volume, predictor = tilted_uneven_scan(), Boxed()
    marked = corrected(volume, predictor)
    document = document_of(volume, marked, "litemedsam")
    assert document["edits"] == [] and document["propagated"] == []
    assert load_session(saved(tmp_path, document)).boxes == {
        2: (REST,),
        3: (HALF, REST),
    }


def test_a_corrected_slice_costs_a_record_little() -> None:
    volume = phantoms.scan(shape_yx=(512, 512))
    marked = Segmentation(volume.shape_zyx)
    marked.apply_edit(1, 1, edit.stroke((512, 512), [(200, 200), (300, 320)], 60.0), "threshold")
    before = len(json_bytes(document_of(volume, Segmentation(volume.shape_zyx))))
    after = len(json_bytes(document_of(volume, marked)))
    assert after - before < 4096


@settings(deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_any_mask_comes_back_from_its_runs(mask: npt.NDArray[np.bool_]) -> None:
    kept = Edit.of(Part(0, 1, "edited", mask))
    np.testing.assert_array_equal(kept.mask_yx(mask.shape), mask)
    assert sum(kept.runs) <= mask.size and (not kept.runs) == (not mask.any())


def test_a_record_of_the_first_schema_is_run_as_ever(tmp_path: Path) -> None:
    volume, predictor = tilted_uneven_scan(), Boxed()
    mask_zyx = np.zeros(volume.shape_zyx, dtype=bool)
    mask_zyx[3] = predicted(volume, predictor, 3, [HALF, REST])
    document = session_record(
        volume, {3: [HALF, REST]}, mask_zyx, model="threshold", weights_sha256={}
    )
    document["schema_version"] = 1
    del document["identity"]
    session = load_session(saved(tmp_path, document))
    again = session.run(predictor, volume)
    np.testing.assert_array_equal(again.mask_zyx("threshold"), mask_zyx)
    assert session.is_same(again, "threshold") is True and again.lesions == [Lesion(1)]
    del document["mask_sha256"]
    assert load_session(saved(tmp_path, document)).is_same(again, "threshold") is None


@pytest.mark.parametrize(
    ("edit_record", "why"),
    [
        (change("lesions", ...), "lesion 2 is not among its lesions"),
        (change("lesions", []), "at least one, each with a number of its own"),
        (change("lesions.1.id", 1), "each with a number of its own"),
        (change("lesions.1.id", 256), "1 to 255; got 256"),
        (change("lesions.1.id", "2"), '"id" of lesion 2 of its list is "2", not a whole number'),
        (change("lesions.0.type", "IPX"), "got 'IPX'; choose one of them"),
        (change("lesions.0.name", None), '"name" of lesion 1 of its list is null, not text'),
        (change("lesions.0.name", "n" * 99), "at most 40 characters"),
        (change("lesions.0.colour", "#12"), "#RRGGBB; got '#12'"),
        (change("lesions.0.locked", 1), '"locked" of lesion 1 of its list is 1, not true or false'),
        (change("boxes.0.lesion", 9), "lesion 9 is not among its lesions"),
        (change("propagated.0.lesion", 9), "lesion 9 is not among its lesions"),
        (
            change("propagated.0.parameters", [1]),
            '"parameters" of a propagation is [1], not an object',
        ),
        (
            change("propagated.0.parameters.second_look", "yes"),
            '"second_look" of a propagation is "yes", not true or false',
        ),
        (change("propagated.0.boxes.0.slice", 8), "slice 8 of 8"),
        (change("propagated.0.boxes.0.slice", 3), "slice 3 has drawn and propagated boxes"),
        (change("propagated.0.boxes.0.box_xyxy", [5, 5, 5, 9]), "exchange the corners"),
        (change("edits", 7), 'its "edits" is 7, not a list'),
        (change("edits.0.slice", -1), "slice -1 of 8"),
        (change("edits.0.lesion", 9), "lesion 9 is not among its lesions"),
        (change("edits.0.lesion", ...), 'an edit has no "lesion"'),
        (
            change("edits.0.origin", "guessed"),
            "the origin of an edit is none of box, propagated, edited",
        ),
        (change("edits.0.answer", 1), '"answer" of an edit is 1, not true or false'),
        (change("edits.0.runs", "5 4096"), "the runs of slice 0 do not fit its 64 x 64 pixels"),
        (change("edits.0.runs", "5 -4"), "the runs of slice 0 do not fit"),
        (change("edits.0.runs", "5 four"), "the runs of slice 0 do not fit"),
        (change("edits.0.runs", [5, 4]), '"runs" of an edit is a list of 2, not text'),
        (change("labels_sha256", 5), 'its "labels_sha256" is 5, not text'),
    ],
)
def test_a_damaged_record_of_a_segmentation_is_refused_with_its_name(
    tmp_path: Path, edit_record: Callable[[dict[str, Any]], None], why: str
) -> None:
    volume, predictor = tilted_uneven_scan(), Boxed()
    document = document_of(volume, corrected(volume, predictor))
    edit_record(document)
    with pytest.raises(InputError, match=re.escape(why)) as refused:
        load_session(saved(tmp_path, document))
    assert str(refused.value).startswith("A session is a record that this program saved; hematoma-")
    assert str(tmp_path) not in str(refused.value) and "\n" not in str(refused.value)


def test_a_record_whose_shape_was_changed_is_refused_on_its_scan(tmp_path: Path) -> None:
    volume = tilted_uneven_scan()
    document = document_of(volume, Segmentation(volume.shape_zyx))
    document["scan"]["shape_zyx"] = [8, 128, 32]
    with pytest.raises(InputError, match="belongs to the scan it was made on"):
        load_session(saved(tmp_path, document)).check_scan(volume)


# Labels


def test_labels_are_written_on_the_scans_grid_with_what_they_stand_for_beside_them(
    tmp_path: Path,
) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is a requirement of the tests")
    scan = phantoms.save_nifti(tmp_path / "head.nii.gz", phantoms.head_hu()[0])
    volume, predictor = read_volume(scan), Boxed()
    marked = corrected(volume, predictor)
    labels, path = marked.labels_zyx("threshold"), tmp_path / "mask.nii.gz"
    save_mask(path, labels, volume, marked.lesions)
    np.testing.assert_array_equal(read_mask(path, volume), labels)
    image, other = sitk.ReadImage(str(scan)), sitk.ReadImage(str(path))
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(image, what)() == getattr(other, what)()
    assert other.GetPixelID() == sitk.sitkUInt8
    assert sorted(np.unique(sitk.GetArrayFromImage(other))) == [0, 1, 2, 3]
    assert read_lesions(path) == marked.lesions
    beside = json.loads((tmp_path / "mask-lesions.json").read_text())
    assert beside["notice"] == NOTICE
    voxel_ml = np.prod(phantoms.HEAD_SPACING_MM) / 1000
    for row in beside["lesions"]:
        assert row["volume_ml"] == pytest.approx((labels == row["id"]).sum() * voxel_ml)


def test_a_written_mask_is_gone_on_with(tmp_path: Path) -> None:
    scan = phantoms.save_nifti(tmp_path / "head.nii.gz", phantoms.head_hu()[0])
    volume, predictor = read_volume(scan), Boxed()
    marked = corrected(volume, predictor)
    path = tmp_path / "mask.nii"
    save_mask(path, marked.labels_zyx("threshold"), volume, marked.lesions)
    again = Segmentation(volume.shape_zyx)
    again.import_labels(read_mask(path, volume), "threshold", read_lesions(path))
    np.testing.assert_array_equal(again.labels_zyx("threshold"), marked.labels_zyx("threshold"))
    unlocked = [replace(lesion, locked=False) for lesion in marked.lesions]
    assert again.lesions == unlocked, "to go on with it"
    session = load_session(saved(tmp_path, document_of(volume, again)))
    assert session.prompts == {} and session.is_same(session.run(predictor, volume), "threshold")


def test_the_archive_of_an_uneven_scan_holds_the_labels_too() -> None:
    volume, predictor = tilted_uneven_scan(), Boxed()
    marked = corrected(volume, predictor)
    labels = marked.labels_zyx("threshold")
    content = slices_zip(labels, volume, marked.lesions)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for k in range(8):
            shown = [
                np.asarray(Image.open(io.BytesIO(archive.read(f"{kind}-{k + 1:03d}.png"))))
                for kind in ("labels", "mask")
            ]
            np.testing.assert_array_equal(shown[0], labels[k])
            np.testing.assert_array_equal(shown[1] == 255, (labels[k] == 1) | (labels[k] == 2))
        rows = json.loads(archive.read(LESIONS_NAME))["lesions"]
        assert [row["type"] for row in rows] == ["IPH", "IVH", "oedema"]
        table = archive.read(SLICES)
        assert table == slices_csv(labels, volume, marked.lesions)


def test_a_mask_without_lesions_has_nothing_beside_it(tmp_path: Path) -> None:
    volume = phantoms.scan()
    save_mask(tmp_path / "m.nii.gz", marked(volume), volume)
    assert [path.name for path in tmp_path.iterdir()] == ["m.nii.gz"]
    assert read_lesions(tmp_path / "m.nii.gz") == []


ROW = '{"id": 1, "name": "a", "type": "IPH", "colour": "#FF0000"}'


def listed(row: str, rest: str = "") -> str:
    return f'{{"lesions": [{row}]{rest}}}'


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "it is not JSON (line 1, column 2)"),
        ("", "it is not JSON (line 1, column 1)"),
        ("[]", "it is [], not an object"),
        (f"[{ROW}, {ROW}]", "it is a list of 2, not an object"),
        ('"x"', 'it is "x", not an object'),
        ("null", "it is null, not an object"),
        ("{}", 'it has no "lesions"'),
        ("[" * 100_000, "it is JSON nested too deeply"),
        ('{"a":' * 100_000, "it is JSON nested too deeply"),
        ("9" * 10_000, "it holds a number that is too long"),
        ('{"lesions": {"1": "IPH"}}', 'its "lesions" is {"1": "IPH"}, not a list'),
        ('{"lesions": null}', 'its "lesions" is null, not a list'),
        ('{"lesions": []}', "lesions are at least one, each with a number of its own"),
        ('{"lesions": [{"id": 1}]}', 'lesion 1 of its list has no "name"'),
        ('{"lesions": ["IPH", "IVH"]}', 'lesion 1 of its list is "IPH", not an object'),
        ('{"lesions": [[[[[]]]]]}', "lesion 1 of its list is [[[[]]]], not an object"),
        (f'{{"lesions": [{ROW}, {ROW}]}}', "each with a number of its own"),
        (
            listed(ROW.replace("1", "true", 1)),
            '"id" of lesion 1 of its list is true, not a whole number',
        ),
        (
            listed(ROW.replace("1", "1.0", 1)),
            '"id" of lesion 1 of its list is 1.0, not a whole number',
        ),
        (listed(ROW.replace("1", "1e999", 1)), "is Infinity, not a whole number"),
        (listed(ROW.replace("IPH", "ABC")), "type is one of"),
        (listed(ROW.replace("}", ', "volume_ml": "9"}')), 'is "9", not a number'),
        (listed(ROW.replace("}", ', "volume_ml": NaN}')), "is NaN, not a number"),
        (listed(ROW, ', "scan_sha256": 5'), 'its "scan_sha256" is 5, not text'),
        (listed(ROW, ', "method": ["a"]'), 'its "method" is ["a"], not text'),
        (listed(ROW, ', "identity": {}'), 'its "identity" is {}, not text'),
    ],
)
def test_a_broken_list_of_lesions_is_refused_in_plain_words(
    tmp_path: Path, content: str, why: str
) -> None:
    (tmp_path / "m-lesions.json").write_text(content)
    with pytest.raises(InputError) as refused:
        read_lesions(tmp_path / "m.nii.gz")
    text = str(refused.value)
    assert text.startswith(
        "What a mask's labels stand for is JSON with a list of lesions; m-lesions.json is not: "
    )
    assert why in text and text.endswith("; delete it, or save the mask again.")
    assert "\n" not in text and len(text) < 400


def test_a_list_of_lesions_that_an_editor_saved_again_is_read(tmp_path: Path) -> None:
    """With a byte order mark, as Windows' Notepad writes."""
    (tmp_path / "m-lesions.json").write_text(f'{{"lesions": [{ROW}]}}', encoding="utf-8-sig")
    assert read_lesions(tmp_path / "m.nii.gz") == [Lesion(1, "a", "IPH", "#FF0000")]
    (tmp_path / "m-lesions.json").write_text(f'{{"lesions": [{ROW}]}}', encoding="utf-16")
    with pytest.raises(InputError, match="it is not JSON in UTF-8"):
        read_lesions(tmp_path / "m.nii.gz")


def test_a_hash_is_of_values_and_shape_and_not_of_their_layout() -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    flipped = values[:, ::-1][:, ::-1]
    big_endian = values.astype(">i2")
    fortran = np.asfortranarray(values)
    same = {content_sha256(array) for array in (values, flipped, big_endian, fortran)}
    assert same == {content_sha256(values.copy())}
    assert content_sha256(values.reshape(3, 2, 4)) not in same
    assert content_sha256(values + 1) not in same


def test_a_record_with_nan_is_never_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_bytes({"dice": float("nan")})


def test_nothing_that_is_exported_names_the_patient(tmp_path: Path) -> None:
    hu_zyx, blood = phantoms.head_hu()
    path = tmp_path / "DOE_JANE_19500102.nii.gz"
    phantoms.save_nifti(path, hu_zyx, description="Doe^Jane 1950-01-02")
    assert b"Doe^Jane" in gzip.decompress(path.read_bytes())
    volume = read_volume(path)
    mask_path = tmp_path / mask_name(volume)
    save_mask(mask_path, blood, volume)
    document = session_record(volume, {}, blood, model="threshold", weights_sha256={})
    everything = b"".join(
        [
            gzip.decompress(mask_path.read_bytes()),
            mask_path.read_bytes()[:64],  # a gzip header may hold the file's name
            json_bytes(document),
            slices_csv(blood, volume),
            slices_zip(blood, volume),
            slice_png(volume, 3, mask_yx=blood[3]),
        ]
    ).lower()
    for word in (b"doe", b"jane", b"1950"):
        assert word not in everything


def test_the_exported_mask_overlays_the_scan_in_another_reader(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is a requirement of the tests")
    hu_zyx, blood = phantoms.head_hu()
    scan = phantoms.save_nifti(tmp_path / "head.nii.gz", hu_zyx)
    volume = read_volume(scan)
    path = tmp_path / MASK
    save_mask(path, blood, volume)
    np.testing.assert_array_equal(nib.load(path).affine, nib.load(scan).affine)
    image, other = sitk.ReadImage(str(scan)), sitk.ReadImage(str(path))
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(image, what)() == getattr(other, what)()
    in_mask = sitk.GetArrayFromImage(image)[sitk.GetArrayFromImage(other) == 1]
    assert set(in_mask.tolist()) == {phantoms.BLOOD_HU}
    assert in_mask.size == blood.sum()


class Prompted(Boxed):
    """A network that takes the edge, by its name; it answers as generously as a model does."""

    name = "litemedsam"


def a_blurred_disc() -> CTVolume:
    """Three slices of 0.5 mm pixels with a disc of 65 HU and 20 mm across in 35 HU, blurred by 0.8 mm."""
    y, x = np.indices((128, 128))
    disc = np.hypot(y - 63.5, x - 63.5) * 0.5 < 10
    hu = ndimage.gaussian_filter(np.where(disc, 65.0, 35.0), 1.6)
    scan = np.repeat(np.rint(hu).astype(np.int16)[None], 3, axis=0)
    return CTVolume(scan, phantoms.geometry((0, 5, 10), (0.5, 0.5)), name="disc")


def test_a_record_says_whether_the_edge_was_on_and_gives_the_same_mask(tmp_path: Path) -> None:
    volume, box = a_blurred_disc(), Box(30, 30, 98, 98)
    y, x = np.indices((128, 128))
    generous = np.hypot(y - 63.5, x - 63.5) * 0.5 < 11

    class Generous(Prompted):
        def predict(self, embedding: Any, boxes: Any, *, second_look: bool | None = None) -> Any:
            return SliceMasks(generous[None], np.ones(1, np.float32))

    masks = {}
    for edge in (True, False):
        marked = Segmentation(volume.shape_zyx, edge_step=step_of(volume), edge=edge)
        marked.set_boxes(1, 1, [box], {"litemedsam": generous})
        document = document_of(volume, marked, "litemedsam")
        assert document["edge"] is edge
        session = load_session(saved(tmp_path, document))
        again = session.run(Generous(), volume)
        assert session.is_same(again, "litemedsam") is True
        assert again.edge is edge
        masks[edge] = again.slice_mask("litemedsam", 1)
        del document["edge"]  # a record of before
        assert load_session(saved(tmp_path, document)).edge is False
    np.testing.assert_array_equal(masks[False], generous)
    assert masks[True].sum() * 0.25 == pytest.approx(np.pi * 100, rel=0.03)


class Generous(ThresholdPredictor):
    """A network that takes the edge, by its name, and takes a little of the tissue along."""

    name = "litemedsam"

    def predict(self, embedding: Any, boxes: Any, *, second_look: bool | None = None) -> SliceMasks:
        masks = np.zeros((len(boxes), *embedding.shape_yx), bool)
        for mask, box in zip(masks, boxes, strict=True):
            mask[box.slices()] = embedding.slice_hu[box.slices()] > 42
        return SliceMasks(masks, np.ones(len(boxes), np.float32))


@pytest.fixture(scope="module")
def thin_blood() -> CTVolume:
    """An ellipsoid of blood over slices of 1 mm, blurred by 0.8 mm."""
    radii_mm = (12.0, 11.0, 10.0)
    reference = phantoms.ellipsoid((40, 96, 96), (1.0, 0.5, 0.5), (20, 24, 24), radii_mm)
    hu = ndimage.gaussian_filter(np.where(reference, 65.0, 35.0), (0.8, 1.6, 1.6))
    where = phantoms.geometry(list(range(40)), (0.5, 0.5))
    return CTVolume(np.rint(hu).astype(np.int16), where, name="thin")


@pytest.mark.parametrize("edge", [True, False])
def test_a_thin_series_is_made_again_from_its_record_with_its_edge(
    tmp_path: Path, thin_blood: CTVolume, edge: bool
) -> None:
    predictor = Generous()
    prompts = {20: [Box(18, 18, 78, 78)]}
    marked = propagate(predictor, thin_blood, prompts, edge=edge)
    document = document_of(thin_blood, marked, "litemedsam")
    (propagated,) = document["propagated"]
    assert propagated["boxes"] == [] and len(propagated["parameters"]["stops"]) == 2
    assert propagated["parameters"]["rule"]["slab_mm"] == 5.0
    assert len(document["edits"]) > 20 and all(one["answer"] for one in document["edits"])
    session = load_session(saved(tmp_path, document))
    again = session.run(predictor, thin_blood)
    assert session.is_same(again, "litemedsam") is True
    assert document_of(thin_blood, again, "litemedsam") == document
    marked.set_edge(not edge)
    again.set_edge(not edge)
    labels = marked.labels_zyx("litemedsam")
    np.testing.assert_array_equal(again.labels_zyx("litemedsam"), labels)
    assert not session.is_same(again, "litemedsam")


def test_a_rule_of_before_slabs_is_followed_slice_by_slice() -> None:
    assert rule_of({"further_looks": 1}) == Rule(further_looks=1, slab_mm=0, least_likeness=None)
    assert rule_of({"slab_mm": 4.0}).slab_mm == 4
    with pytest.raises(RecordError, match='"slab_mm" of a propagation\'s rule is 0 to 100'):
        rule_of({"slab_mm": 1e9})
