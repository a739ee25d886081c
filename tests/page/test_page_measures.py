"""What the page measures in passing and lets people take away, on phantoms whose answers are known."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import meshio
import numpy as np
import pydicom
import pygltflib
import pypdfium2
import pytest
from PIL import Image

from ichseg import NOTICE
from ichseg.files.names import file_name, lesions_path, mask_name
from ichseg.files.nifti_mask import read_mask
from ichseg.files.session import SCHEMA_VERSION, load_session
from ichseg.files.sidecar import read_lesions
from ichseg.files.write import by_key, endings
from ichseg.marks.box import Box, jitter
from ichseg.marks.document import Segmentation
from ichseg.measures.spread import DRAWS, jitter_in_pixels, starts
from ichseg.measures.volume import volume_ml
from ichseg.methods.catalogue import method_of
from ichseg.methods.follow_rule import Rule
from ichseg.methods.predictor import SliceMasks
from ichseg.methods.propagation import propagate
from ichseg.page.controller import Controller
from ichseg.page.measuring import Lines, Measuring, Method, Snapshot, work_for
from ichseg.page.panels.measure import panel as measure_panel
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume
from tests import phantoms
from tests.moved_boxes import volume_range
from tests.pages import (
    COLUMNS,
    ROWS,
    BoxModel,
    CloserModel,
    Embedding,
    Page,
    area_ml,
    numbered_scan,
    rested,
)

BOX = [4, 6, 16, 15]  # 12 x 9 pixels of 0.5 mm on slices of 5 mm


def marked_page(controller: Controller, *slices: int, box: list[int] = BOX) -> Page:
    """A page with the sample open and a box on some slices."""
    page = Page(controller, "x")
    page.ask("sample")
    for k in slices:
        page.ask("boxes", slice=k, boxes=[box])
    return page


def case_of(controller: Controller) -> tuple[Segmentation, CTVolume]:
    case = controller.store.get("x").case
    assert case is not None and case.volume is not None
    return case.segmentation, case.volume


def passing(controller: Controller, page: Page, have: int | None = None, **asked: Any) -> Any:
    """The measures that a page is answered in passing."""
    aside = {"slice": 0, "measure": {"have": have, **asked}}
    return controller.aside("x", {"case": page.case, "aside": aside})["measures"]


def complete(controller: Controller, page: Page) -> Any:
    """The record once its range is complete."""
    found = passing(controller, page)
    record = found["record"]
    for _ in range(20):
        if found["range"] is None:
            return found.get("record", record)
        found = passing(controller, page, record["n"])
    raise AssertionError("the range was never complete")


# In passing


def test_a_box_is_measured_as_geometry_has_it(controller: Controller) -> None:
    page = marked_page(controller, 1, 2)
    record = passing(controller, page)["record"]
    (lesion,) = record["lesions"]
    assert record["total"]["volume_ml"] == lesion["volume_ml"] == pytest.approx(area_ml(2 * 108))
    abc = lesion["abc2"]
    assert abc["a"]["length_mm"] == pytest.approx(math.hypot(6, 4.5))  # the box's diagonal
    assert abc["c_mm"] == 10  # two slices in full
    assert [one["weight"] for one in abc["slices"]] == [1, 1]
    assert [row["area_mm2"] for row in lesion["slices"]] == [27, 27]
    assert (lesion["hu"]["minimum"], lesion["hu"]["maximum"]) == (1, 2)  # a slice holds its number
    assert lesion["longest_in_3d"]["length_mm"] == pytest.approx(math.hypot(6, 4.5, 10))
    assert record["reading_error"]["between_raters_ml"] == 5.8
    assert "hardly any voxel of the scan is bone" in lesion["not_computed"]["side"]
    assert record["plane_mm"] == [[0.5, 0], [0, 0.5]]
    json.dumps(record, allow_nan=False)


def test_the_numbers_come_first_and_then_their_range_as_the_library_has_it(
    controller: Controller, fakes: dict[str, BoxModel]
) -> None:
    page = marked_page(controller, 1, 2)
    first = passing(controller, page)
    record = first["record"]
    assert first["range"] == 0 and record["total"]["range"] is None
    assert record["total"]["range_comes"]
    last = passing(controller, page, record["n"])
    assert last["range"] is None
    boxes = {1: [Box(*BOX)], 2: [Box(*BOX)]}
    expected = volume_range(fakes["one"], case_of(controller)[1], boxes)  # type: ignore[arg-type]
    for one in (last["record"]["total"], *last["record"]["lesions"]):
        assert tuple(one["range"]["draws_ml"]) == expected.draws_ml
        assert one["range"]["carried_over"] is False and "range" not in one["not_computed"]
    assert expected.low_ml < record["total"]["volume_ml"] < expected.high_ml


def test_a_change_on_one_slice_costs_the_range_of_that_slice(
    controller: Controller, fakes: dict[str, BoxModel]
) -> None:
    page = marked_page(controller, 1, 2)
    before = complete(controller, page)
    page.ask("boxes", slice=3, boxes=[BOX])
    predicted = fakes["one"].predicted
    after = complete(controller, page)
    assert fakes["one"].predicted - predicted == DRAWS
    assert after["n"] != before["n"]
    ratio = after["total"]["range"]["low_ml"] / before["total"]["range"]["low_ml"]
    assert ratio == pytest.approx(1.5)  # three equal slices for two
    page.ask("undo")
    assert complete(controller, page)["total"]["range"] == before["total"]["range"]
    assert fakes["one"].predicted - predicted == DRAWS


def test_a_range_of_first_answers_is_carried_over_to_the_second_look(
    controller: Controller, closer: CloserModel
) -> None:
    page = marked_page(controller, 1)
    rested(controller, page, 1)  # keeps the box's first row: 12 of 108 pixels
    total = complete(controller, page)["total"]
    assert total["volume_ml"] == pytest.approx(area_ml(12))
    plain = volume_range(closer, case_of(controller)[1], {1: [Box(*BOX)]})  # type: ignore[arg-type]
    assert total["range"]["carried_over"] is True
    for key in ("low_ml", "high_ml"):
        share = getattr(plain, key) / plain.median_ml
        assert total["range"][key] == pytest.approx(share * area_ml(12))


def test_the_range_gives_way_to_who_draws_and_keeps_what_it_has(
    controller: Controller, fakes: dict[str, BoxModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = marked_page(controller, 1, 2)
    record = passing(controller, page)["record"]
    monkeypatch.setattr(measure_panel, "RANGE_SECONDS", 60.0)
    model, whole = fakes["one"], fakes["one"].predict
    batches: list[int] = []

    def predict(embedding: Embedding, boxes: list[Box], **options: Any) -> SliceMasks:
        batches.append(len(boxes))
        if len(batches) == 2:
            controller.look("y", {"case": "any"})  # looking about is no hurry
        if len(batches) == 3:
            controller.look("x", {"case": page.case, "slice": 4, "busy": True})
        return whole(embedding, boxes, **options)

    monkeypatch.setattr(model, "predict", predict)
    found = passing(controller, page, record["n"])
    assert batches == [4, 4, 4] and found["range"] == 12 / 32 and "record" not in found
    found = passing(controller, page, record["n"])
    assert found["range"] is None and batches == [4] * 8  # nothing twice


def test_work_in_portions_ends_with_its_time() -> None:
    steps = iter([0.0, 0.25, 0.5])
    assert work_for(steps, 0.0, lambda: True) == 0.0
    assert work_for(steps, 60.0, lambda: False) == 0.25
    assert work_for(steps, 60.0, lambda: True) is None


def test_where_nothing_can_be_measured_a_sentence_says_why(
    controller: Controller, fakes: dict[str, BoxModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = marked_page(controller)
    assert passing(controller, page) == {
        "record": None,
        "why": "A measure needs something marked; nothing is yet; draw a box first.",
    }

    def fail(*_: object, **__: object) -> SliceMasks:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(fakes["one"], "predict", fail)
    page.ask("boxes", slice=3, boxes=[BOX])
    assert "One failed on slice 4" in passing(controller, page)["why"]


def test_what_was_measured_lets_go_of_a_scan_that_is_put_aside(controller: Controller) -> None:
    page = marked_page(controller, 1)
    before = complete(controller, page)
    controller.store.budget_bytes = 0
    Page(controller, "y").ask("sample")
    case = controller.store.get("x").case
    assert case is not None and case.volume is None
    assert case.measuring._last is None and case.measuring._landmarks is None
    after = complete(controller, page)
    assert after["total"] == before["total"] and after["n"] != before["n"]


# Several lesions


def two_lesions(controller: Controller) -> Page:
    """Lesion 1 on slices 1 and 2, a ventricle on slice 2, oedema on slice 4."""
    page = marked_page(controller, 1, 2)
    marked, volume = case_of(controller)
    for kind, k, box in (("IVH", 2, Box(20, 2, 28, 8)), ("oedema", 4, Box(2, 2, 12, 12))):
        lesion = marked.add_lesion(type=kind)
        mask = np.zeros(volume.shape_zyx[1:], bool)
        mask[box.slices()] = True
        marked.set_boxes(k, lesion, [box], {"one": mask, "two": mask})
    return page


def test_lesions_are_measured_one_by_one_and_oedema_is_no_blood(controller: Controller) -> None:
    page = two_lesions(controller)
    record = complete(controller, page)
    volumes = {one["type"]: one["volume_ml"] for one in record["lesions"]}
    assert volumes == pytest.approx(
        {"unspecified": area_ml(216), "IVH": area_ml(48), "oedema": area_ml(100)}
    )
    assert record["total"]["volume_ml"] == pytest.approx(area_ml(216 + 48))
    assert record["reading_error"]["between_raters_ml"] == 7.7
    draws = [np.array(one["range"]["draws_ml"]) for one in record["lesions"]]
    assert record["total"]["range"]["draws_ml"] == pytest.approx((draws[0] + draws[1]).tolist())
    assert record["total"]["abc2"] is None and "abc2" in record["total"]["not_computed"]


def test_masks_that_no_box_gave_have_no_range_and_say_so(controller: Controller) -> None:
    page = two_lesions(controller)
    marked, volume = case_of(controller)
    spread = np.zeros(volume.shape_zyx[1:], bool)
    spread[6:15, 4:16] = True
    marked.set_propagated({3: spread}, 1, "one", {})
    record = complete(controller, page)
    propagated, ventricle, _ = record["lesions"]
    for one in (propagated, record["total"]):
        assert one["range"] is None and not one["range_comes"]
        assert one["not_computed"]["range"] == (
            "A range is that of drawn boxes; some of this mask was corrected by hand or loaded."
        )
    assert ventricle["range"]["draws_ml"]


def test_the_range_of_a_propagated_mask_is_that_of_propagations_from_moved_boxes() -> None:
    volume, predictor, box = numbered_scan(), BoxModel("one"), Box(*BOX)
    # The model fills its boxes, which grow from slice to slice; the rule lets them.
    anything = {"least_contrast": -100.0, "least_contrast_hu": -1e4, "least_overlap": 0.0}
    rule = Rule(**anything, most_growth=1e6, most_bone=1.0, further_looks=0)
    asked: list[int] = []

    def embed(k: int) -> Any:
        asked.append(k)
        return predictor.embed(volume.hu_zyx[k])

    marked = propagate(predictor, volume, {3: [box]}, rule=rule, embed=embed)  # type: ignore[arg-type]
    assert marked.marked_slices("one") == [3, 4, 5]  # below, the phantom is darker

    mask = marked.mask_zyx("one")
    options = starts(mask, {3: (box,)})
    assert [start[0][0] for start in options] == [3, 4, 5]

    def propagated(draw: int) -> float:
        """By the library itself, from a box on each slice by turns, moved as a range moves it."""
        k, (start,) = options[draw % 3][0]
        jitter_px = jitter_in_pixels(volume)
        moved = jitter(start, jitter_px, np.random.default_rng([0, draw]), (ROWS, COLUMNS))
        found = propagate(predictor, volume, {k: [moved]}, rule=rule, embed=embed)  # type: ignore[arg-type]
        return volume_ml(found.mask_zyx("one"), volume)

    measuring = Measuring()
    snapshot = Snapshot.of(marked, Method("one", "One", False))
    measured = measuring.measure(snapshot, volume)
    asked.clear()
    hurried = measuring.portions(
        measured,
        predictor,  # type: ignore[arg-type]
        embed,
        cancelled=lambda: bool(asked),
    )
    assert [next(hurried) for _ in range(3)] == [0, 0, 0]  # what is cut short does not count
    shares = list(measuring.portions(measured, predictor, embed))
    assert shares == [step / 17 for step in range(17)]  # the boxes as they are, and 16 draws
    found = measuring.assessment(measured)
    assert found.ranges[None] == found.ranges[1]
    assert found.ranges[1].from_slices == (3, 4, 5)
    assert found.ranges[1].draws_ml == pytest.approx([propagated(draw) for draw in range(16)])
    assert found.ranges[1].low_ml < found.ranges[1].high_ml and not found.ranges[1].carried_over
    assert list(measuring.portions(measured, predictor, embed)) == []

    # Another lesion takes a corner on one slice: the draws stay, in proportion to what is left.
    second, before = marked.add_lesion(), found.ranges[1]
    corner = np.zeros((ROWS, COLUMNS), dtype=bool)
    corner[box.slices()] = True
    corner[:, : int(box.x1) - 2] = False
    marked.apply_edit(3, second, corner, "one")
    again = measuring.measure(Snapshot.of(marked, Method("one", "One", False)), volume)
    assert len(list(measuring.portions(again, predictor, embed))) == 0  # nothing is drawn anew
    left = measuring.assessment(again)
    share = left.measures[0].volume_ml / volume_ml(mask, volume)
    assert 0.9 < share < 1
    assert left.ranges[1].draws_ml == pytest.approx([share * ml for ml in before.draws_ml])


def test_a_lesion_keeps_its_range_when_a_neighbour_takes_some_of_it(controller: Controller) -> None:
    page = marked_page(controller, 3)
    before = complete(controller, page)["lesions"][0]["range"]
    page.ask("lesion_add")
    page.ask(
        "boxes", slice=3, lesion=2, boxes=[[14, 6, 20, 15]]
    )  # of the first one's 12 columns, two
    first, second = complete(controller, page)["lesions"]
    assert first["volume_ml"] == pytest.approx(area_ml(90)) and second["range"]
    after = first["range"]
    assert after["carried_over"] and not before["carried_over"]
    for end in ("low_ml", "high_ml"):  # the same extent, in proportion
        kept = before[end] / before["median_ml"] * first["volume_ml"]
        assert after[end] == pytest.approx(kept)
    page.ask("boxes", slice=3, lesion=2, boxes=[[17, 6, 20, 15]])
    again = complete(controller, page)["lesions"][0]
    assert again["range"] is not None


def test_a_mask_of_lesions_is_downloaded_with_what_its_labels_are(controller: Controller) -> None:
    page = two_lesions(controller)
    marked, volume = case_of(controller)
    download = page.ask("export", kind="mask")["download"]
    (beside,) = download["beside"]
    labels = read_mask(Path(download["path"]), volume)
    assert np.array_equal(labels, marked.labels_zyx("one"))
    assert download["name"] == mask_name(volume)
    assert beside["name"] == lesions_path(Path(download["name"])).name
    assert read_lesions(download["path"]) == marked.lesions
    assert Path(beside["path"]).is_relative_to(controller.store.public)


def test_the_record_of_more_than_boxes_makes_the_same_mask_again(
    controller: Controller, fakes: dict[str, BoxModel]
) -> None:
    plain = json.loads(Path(marked_record(marked_page(controller, 1))).read_text())
    assert plain["schema_version"] == SCHEMA_VERSION
    controller.drop("x")
    page = two_lesions(controller)
    marked, volume = case_of(controller)
    corrected = np.zeros(volume.shape_zyx[1:], bool)
    corrected[8:11, 5:9] = True
    marked.apply_edit(1, 1, corrected, "one")
    session = load_session(marked_record(page))
    again = session.run(fakes["one"], volume)  # type: ignore[arg-type]
    assert session.is_same(again, "one") is True
    assert np.array_equal(again.labels_zyx("one"), marked.labels_zyx("one"))
    assert again.lesions == marked.lesions


def marked_record(page: Page) -> str:
    return str(page.ask("export", kind="record")["download"]["path"])


# ABC/2 by hand


def abc_of(record: Any) -> Any:
    return record["lesions"][0]["abc2"]


def test_lines_that_a_person_moves_are_measured_and_exported_until_reset(
    controller: Controller,
) -> None:
    page = marked_page(controller, 1, 2)
    found = abc_of(passing(controller, page)["record"])
    across = [4, 10, 14, 10]  # 5 mm along x
    moved = abc_of(page.ask("abc2", lesion=1, a=across, b=None, c=None)["measures"]["record"])
    assert moved["edited"] == ("a",) and moved["a"]["length_mm"] == pytest.approx(5)
    assert moved["b"]["length_mm"] == pytest.approx(4.5)  # B crosses the new A: the box's height
    assert moved["volume_ml"] == pytest.approx(5 * 4.5 * 10 / 2000)
    record = page.ask("abc2", lesion=1, a=across, b=[6, 6, 6, 14], c=7.5)["measures"]["record"]
    assert abc_of(record)["volume_ml"] == pytest.approx(5 * 4 * 7.5 / 2000)
    assert record["total"]["abc2"] == abc_of(record)

    path = page.ask("export", kind="csv")["download"]["path"]
    total = next(csv.DictReader(io.StringIO(Path(path).read_text())))
    assert total["abc2_set_by_hand"] == "a b c" and float(total["abc2_a_mm"]) == 5
    report = pypdfium2.PdfDocument(page.ask("export", kind="pdf")["download"]["path"])
    text = "".join(one.get_textpage().get_text_range() for one in report).replace("\r\n", " ")
    assert "set by hand" in text

    page.ask("boxes", slice=4, boxes=[BOX])  # another mask: the lines are not of it
    assert abc_of(passing(controller, page)["record"])["edited"] == ()
    page.ask("undo")
    assert abc_of(passing(controller, page)["record"])["edited"] == ("a", "b", "c")
    back = page.ask("abc2", lesion=1, a=None, b=None, c=None)["measures"]["record"]
    assert abc_of(back) == found


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ({"a": [4, 10, 4, 10]}, "A runs between two points"),
        ({"a": [4, 10, 14]}, "'a' of the operation 'abc2' has at least 4 items; got [4, 10, 14]"),
        ({"a": ["x", 0, 1, 2]}, "'a.0' of the operation 'abc2' is a number; got 'x'"),
        ({"b": [4, 10, float("nan"), 10]}, "is a finite number; got nan"),
        ({"c": -1}, "C is a length of more than 0 mm"),
        ({"lesion": 2, "c": 5}, "lesion 2 has none"),
    ],
)
def test_lines_that_are_none_are_refused_and_change_nothing(
    controller: Controller, lines: dict[str, Any], why: str
) -> None:
    page = marked_page(controller, 1, 2)
    before = passing(controller, page)["record"]
    reply = page.ask("abc2", **{"lesion": 1, **lines})
    assert why in reply["error"]["text"]
    assert passing(controller, page)["record"] == before


def test_lines_are_asked_of_what_is_marked(controller: Controller) -> None:
    reply = marked_page(controller).ask("abc2", lesion=1, c=5)
    assert reply["error"]["text"].startswith("ABC/2 needs something marked")


def test_lines_belong_to_one_lesion_and_method() -> None:
    volume = phantoms.scan((0, 5, 10), (24, 32))
    marked = Segmentation(volume.shape_zyx)
    mask = np.zeros((24, 32), bool)
    mask[4:10, 4:14] = True
    second = marked.add_lesion()
    marked.set_boxes(1, 1, [Box(4, 4, 14, 10)], {"one": mask, "two": mask})
    marked.set_boxes(2, second, [Box(4, 4, 14, 10)], {"one": mask, "two": mask})
    measuring = Measuring()

    def edited(name: str) -> list[tuple[str, ...]]:
        of = Snapshot.of(marked, Method(name, name, False))
        found = measuring.assessment(measuring.measure(of, volume))
        return [one.abc2.edited for one in found.measures if one.abc2]

    first = measuring.measure(Snapshot.of(marked, Method("one", "One", False)), volume)
    measuring.set_lines(first, second, Lines(c_mm=3.0))
    assert edited("one") == [(), ("c",)] and edited("two") == [(), ()]


# Files


def test_every_file_of_evidence_is_what_its_name_says(
    controller: Controller, fakes: dict[str, BoxModel]
) -> None:
    page = two_lesions(controller)
    _, volume = case_of(controller)

    def download(kind: str) -> Path:
        found = page.ask("export", kind=kind)["download"]
        path = Path(found["path"])
        assert path.is_relative_to(controller.store.public)
        assert found["name"] == file_name(volume, by_key(kind).name)
        assert len(found["beside"]) == (2 if kind == "csv" else 0)
        return path

    record = json.loads(download("json").read_text())
    assert record["total"]["volume_ml"] == pytest.approx(area_ml(216 + 48))
    assert record["total"]["range"]["low_ml"] < record["total"]["range"]["high_ml"]
    assert record["model"] == "one" and record["slices_by"] == {"box": 4}
    table = download("csv")
    assert [row["lesion"] for row in csv.DictReader(table.open())] == ["1", "2", "3"]
    (total,) = csv.DictReader(table.with_name(f"{table.stem}-total.csv").open())
    assert float(total["range_low_ml"]) == pytest.approx(
        record["total"]["range"]["low_ml"], abs=1e-4
    )
    pages = pypdfium2.PdfDocument(download("pdf"))
    assert 1 <= len(pages) <= 2 and NOTICE in pages[0].get_textpage().get_text_range()
    assert len(meshio.read(download("stl")).points)
    nodes = [node.name for node in pygltflib.GLTF2().load(download("glb")).nodes]
    assert {"Lesion 1", "Lesion 2", "Lesion 3"} <= set(nodes)
    refused = page.ask("export", kind="dcm")["error"]["text"]
    assert refused.startswith(
        "A DICOM-SEG refers to the DICOM images of its scan; phantom is NIfTI"
    )


def test_a_report_says_how_far_its_range_is_and_completes_it(controller: Controller) -> None:
    page = marked_page(controller, 1, 2)
    page.last += 1
    op = {"op": "export", "id": page.last, "kind": "json"}
    *progress, reply = controller.work("x", {"case": page.case, "ops": [op]})
    texts = [one["progress"]["text"] for one in progress]
    assert texts[0] == "Measuring" and texts[-1] == "Writing the file"
    drawn = [one["progress"]["part"] for one in progress[1:-1]]
    assert drawn == [n / 8 for n in range(8)]  # four portions a slice
    assert json.loads(Path(reply["download"]["path"]).read_text())["total"]["range"]


def test_who_does_not_wait_for_the_range_gets_the_file_without_it(controller: Controller) -> None:
    page = marked_page(controller, 1, 2)
    page.last += 1
    op = {"op": "export", "id": page.last, "kind": "json"}
    shares = []
    for reply in controller.work("x", {"case": page.case, "ops": [op]}):
        said = reply.get("progress", {})
        if said.get("cancel") and said["part"] is not None:  # none while others are served first
            shares.append(said["part"])
            if len(shares) == 3:
                controller.look("x", {"case": page.case, "cancel": True})
    assert shares == [0, 1 / 8, 2 / 8]
    total = json.loads(Path(reply["download"]["path"]).read_text())["total"]
    assert total["range"] is None and "was not waited for" in total["not_computed"]["range"]
    assert complete(controller, page)["total"]["range"]  # what was cut short is taken up again


def test_a_picture_shows_the_lesions_in_their_colours_but_hidden_ones(
    controller: Controller,
) -> None:
    page = two_lesions(controller)
    marked, _ = case_of(controller)

    def colours(k: int) -> set[tuple[int, ...]]:
        fields = {"slice": k, "width": 80, "level": 40, "opacity": 1}
        path = page.ask("export", kind="picture", **fields)["download"]["path"]
        return set(map(tuple, np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).tolist()))

    first, ventricle, oedema = (lesion.rgb for lesion in marked.lesions)
    assert {first, ventricle} <= colours(2) and oedema not in colours(2)
    case = controller.store.get("x").case
    assert case and method_of(case.models[0]).rgb in colours(2)  # the box is of the method
    marked.set_lesion(2, visible=False)
    assert first in colours(2) and ventricle not in colours(2) and oedema in colours(4)


def test_nothing_leaves_where_nothing_is_marked(controller: Controller) -> None:
    page = marked_page(controller)
    for suffix in endings("measures"):
        text = page.ask("export", kind=suffix[1:])["error"]["text"]
        assert text == "A download needs something marked; nothing is yet; draw a box first."


def test_a_dicom_seg_refers_to_its_scan_and_names_nobody(
    controller: Controller, tmp_path: Path
) -> None:
    head = phantoms.speckled_head()
    images = phantoms.dicom_slices(head, [5.0 * k for k in range(len(head))])
    phantoms.save_dicom(tmp_path / "scan", images)
    controller.shared.read = lambda path, **_: read_volume(tmp_path / "scan")
    page = Page(controller, "x")
    assert page.ask("sample")["scan"]["dicom"] is True
    page.ask("boxes", slice=4, boxes=[[10, 10, 30, 25]])
    path = page.ask("export", kind="dcm")["download"]["path"]
    found = pydicom.dcmread(path)
    assert found.Modality == "SEG" and found.PatientName == "" and found.PatientID == ""
    assert phantoms.PATIENT.encode() not in Path(path).read_bytes()
    assert int(found.pixel_array.sum()) == 20 * 15
    assert found.StudyInstanceUID == images[0].StudyInstanceUID
    given = page.ask("export", kind="sr.dcm")["download"]
    report, masks = (pydicom.dcmread(one["path"]) for one in (given, *given["beside"]))
    assert (report.Modality, masks.Modality) == ("SR", "SEG")


# The surface


def test_the_surface_is_made_once_for_a_mask_and_deleted_when_it_was_fetched(
    controller: Controller,
) -> None:
    page = two_lesions(controller)
    found = passing(controller, page, view=True, viewed=None)
    path = Path(found["view"]["path"])
    tree = pygltflib.GLTF2().load(path)
    assert [node.name for node in tree.nodes if node.mesh is not None] == [
        *("Lesion 1", "Lesion 2", "Lesion 3"),
    ]  # this phantom has no skull
    n = found["view"]["n"]
    assert n == found["record"]["n"] and path.is_relative_to(controller.store.public)
    assert "view" not in passing(controller, page, n, view=True, viewed=n)
    page.ask("fetched")
    assert not path.parent.exists()
    page.ask("boxes", slice=0, boxes=[BOX])
    paths = [Path(passing(controller, page, n, view=True)["view"]["path"]) for _ in range(2)]
    assert not paths[0].exists() and paths[1].exists()  # one lies about at most
    controller.drop("x")
    assert not paths[1].exists()


def test_a_surface_of_nothing_says_so(
    controller: Controller, fakes: dict[str, BoxModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(embedding: Embedding, boxes: list[Box], **_: Any) -> SliceMasks:
        return SliceMasks(
            np.zeros((len(boxes), *embedding.slice_hu.shape), bool),
            np.full(len(boxes), np.nan, np.float32),
        )

    monkeypatch.setattr(fakes["one"], "predict", nothing)
    page = marked_page(controller, 1)
    found = passing(controller, page, view=True)
    assert "the mask is empty" in found["view"]["why"]
    assert found["record"]["total"]["voxels"] == 0 and found["record"]["lesions"] == []
