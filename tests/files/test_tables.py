"""One assessment: what is measured, and the tables that are made of it."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import phantoms
import pypdfium2
import pytest

from ichseg import NOTICE
from ichseg.errors import InputError
from ichseg.files.records import scan_record
from ichseg.files.write import WRITERS, by_key, encode, save_measures
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.marks.lesion import Lesion
from ichseg.measures.abc2 import abc2
from ichseg.measures.assessment import Assessment, assess, assess_marked, with_abc2
from ichseg.measures.fields import not_computed
from ichseg.measures.followup import Blood
from ichseg.measures.growth import growth
from ichseg.measures.lengths import longest_in_plane
from ichseg.measures.scores import Findings, scores
from ichseg.measures.spread import VolumeRange
from ichseg.measures.timeline import Timeline, timeline
from ichseg.measures.volume import volume_ml
from ichseg.scan.volume import CTVolume

ROOT = Path(__file__).resolve().parents[2]
LESIONS = (
    Lesion(1, "Thalamus", type="IPH"),
    Lesion(2, type="IVH"),
    Lesion(3, type="oedema"),
    Lesion(4, "Not marked"),
)
NAMES = {row.ending: row.name for row in WRITERS if "measures" in row.offered}
SHA = {"litemedsam/model.safetensors": "ab" * 32}


def three_lesions() -> tuple[CTVolume, npt.NDArray[np.uint8]]:
    """Blood of two kinds in oedema, 25 mm2 pixels / 100 on slices of 4 and 7 mm, without any bone."""
    volume = phantoms.scan((0, 4, 8, 15, 22), (40, 48), (0.5, 0.5), tilt_degrees=12)
    labels = np.zeros(volume.shape_zyx, dtype=np.uint8)
    labels[1:4, 5:25, 5:25] = 3
    labels[1:4, 10:20, 10:20] = 1
    labels[2, 30:34, 30:40] = 2
    return volume, labels


def a_range(ml: float) -> VolumeRange:
    return VolumeRange(0.9 * ml, ml, 1.2 * ml, (0.9 * ml, ml, 1.2 * ml), 3.0, 0)


def assessed(**options: Any) -> Assessment:
    volume, labels = three_lesions()
    given: dict[str, Any] = {
        "model": "litemedsam",
        "model_title": "LiteMedSAM",
        "weights_sha256": SHA,
        "second_look": False,
        "prompts": {(2, 1): (Box(9, 9, 21, 21.5),)},
        "ranges": {None: a_range(0.6), 1: a_range(0.5)},
    }
    return assess(labels, volume, LESIONS, **given | options)


def over_time() -> Timeline:
    """Three scans of a lesion with 10, 20 and 15 mL, and of one that is new on the second with 2 mL."""
    left, new = Lesion(1, "Left", type="IPH"), Lesion(2, "New", type="IPH")
    scans = [[(left, 10.0)], [(left, 20.0), (new, 2.0)], [(left, 15.0)]]
    return timeline([Blood.of(one, f"{at}" * 64) for at, one in enumerate(scans)], hours=[4, 24])


def rows_of(found: Assessment, table: str = ".csv") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(encode(".csv", found)[table].decode())))


def test_the_total_is_of_blood_and_each_lesion_has_its_own_measures() -> None:
    volume, labels = three_lesions()
    found = assessed()
    assert [lesion.id for lesion in found.lesions] == [1, 2, 3]
    assert [one.label for one in found.measures] == [1, 2, 3]
    blood = (labels == 1) | (labels == 2)
    assert found.total.volume_ml == pytest.approx(volume_ml(blood, volume))
    assert found.total.voxels == int(blood.sum())
    for one in found.measures:
        assert one.volume_ml == pytest.approx(volume_ml(labels == one.label, volume))
    assert found.reading_error.between_raters_ml == 7.7  # for there is intraventricular blood
    alone = assess(np.where(labels == 1, labels, 0), volume, LESIONS)
    assert alone.reading_error.between_raters_ml == 5.8
    assert alone.model_title == "Drawn by hand"


def test_a_label_that_is_no_lesion_is_refused() -> None:
    volume, labels = three_lesions()
    with pytest.raises(InputError, match=r"labels are those of its lesions, 1, 2; it has 3; say"):
        assess(labels, volume, LESIONS[:2])


def test_of_a_segmentation_it_takes_lesions_boxes_and_origins() -> None:
    volume, labels = three_lesions()
    marked = Segmentation(volume.shape_zyx)
    marked.set_slice(1, [Box(9, 9, 21, 21)], {"litemedsam": labels[1] == 1})
    marked.set_propagated({2: labels[2] == 1, 3: labels[3] == 1}, 1, "litemedsam", {})
    ventricle = marked.add_lesion(type="IVH")
    marked.apply_edit(2, ventricle, labels[2] == 2, "litemedsam")
    found = assess_marked(
        marked, volume, model="litemedsam", model_title="LiteMedSAM", weights_sha256=SHA
    )
    assert found.slices_by == {"box": 1, "propagated": 2, "edited": 1}
    assert found.prompts == {(1, 1): (Box(9, 9, 21, 21),)}
    assert [lesion.type for lesion in found.lesions] == ["unspecified", "IVH"]
    np.testing.assert_array_equal(found.labels_zyx, np.where(labels == 3, 0, labels))


def test_another_abc2_is_the_lesions_and_the_totals_where_it_is_the_only_blood() -> None:
    volume, labels = three_lesions()
    moved = abc2(labels == 1, volume, c_mm=7.0)
    assert moved is not None
    found = with_abc2(assessed(), 1, moved)
    assert found.measures[0].abc2 == moved and found.measures[1:] == assessed().measures[1:]
    assert found.total.abc2 is None  # there is other blood
    alone = assess(np.where(labels == 2, 0, labels), volume, LESIONS)
    assert with_abc2(alone, 1, moved).total.abc2 == moved
    assert with_abc2(alone, 3, moved).total.abc2 == alone.total.abc2  # oedema's
    assert [row["abc2_set_by_hand"] for row in rows_of(found)] == ["c", "", ""]


def test_why_there_is_no_range_is_told_as_it_is_known() -> None:
    found = assessed(ranges={}, no_range={1: "It was propagated."})
    assert not_computed(found.measures_of(1))["range"] == "It was propagated."
    assert "was not asked for" in not_computed(found.measures_of(2))["range"]


# --- CSV ---------------------------------------------------------------------------------------------


def test_each_table_has_one_kind_of_row() -> None:
    volume, labels = three_lesions()
    found = assessed()
    assert list(encode(".csv", found)) == [".csv", "-total.csv", "-slices.csv"]
    rows, slices = rows_of(found), rows_of(found, "-slices.csv")
    assert [row["lesion"] for row in rows] == ["1", "2", "3"]
    assert [(row["lesion"], row["slice"], row["slice_index"]) for row in slices] == [
        *[("1", "2", "1"), ("1", "3", "2"), ("1", "4", "3"), ("2", "3", "2")],
        *[("3", "2", "1"), ("3", "3", "2"), ("3", "4", "3")],
    ]
    (total,) = rows_of(found, "-total.csv")
    blood = (labels == 1) | (labels == 2)
    assert float(total["volume_ml"]) == pytest.approx(volume_ml(blood, volume), abs=5e-5)
    first = rows[0]
    mask = labels == 1
    ab, line = abc2(mask, volume), longest_in_plane(mask, volume)
    assert ab is not None and line is not None
    expected = {
        "volume_ml": volume_ml(mask, volume),
        "range_low_ml": 0.45,
        "range_high_ml": 0.6,
        "longest_in_plane_mm": line.length_mm,
        "abc2_ml": ab.volume_ml,
        "abc2_c_mm": ab.c_mm,
        "hu_mean": phantoms.BRAIN_HU,
        "hu_sd": 0.0,
    }
    assert {name: float(first[name]) for name in expected} == pytest.approx(expected, abs=5e-5)
    assert (first["name"], first["type"], first["is_blood"]) == ("Thalamus", "IPH", "yes")
    assert (rows[2]["type"], rows[2]["is_blood"]) == ("oedema", "no")
    areas = [float(row["area_mm2"]) for row in slices]
    assert areas == pytest.approx([25, 25, 25, 10, 75, 75, 75])
    assert (total["boxes"], first["boxes"], rows[1]["boxes"]) == (*["2:9,9,21,21.5"] * 2, "")
    for row in (total, *rows, *slices):
        assert (row["scan"], row["method"]) == (volume.sha256[:8], "litemedsam")
        assert (row["scan_sha256"], row["notice"]) == (volume.sha256, NOTICE)
    for row in (total, *rows):
        assert "ab" * 32 in row["weights_sha256"]


def test_a_slice_is_said_as_people_count_and_as_the_command_line_takes_it() -> None:
    for row in rows_of(assessed()):
        for what in ("longest_in_plane", "abc2"):
            assert int(row[f"{what}_slice"]) == int(row[f"{what}_slice_index"]) + 1


def test_other_programs_read_the_tables_without_an_option(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    found = assessed(growth=growth(0.5, 0.8), scores=scores(Findings(nihss=12)))
    for path in save_measures(tmp_path / "m.csv", found):
        table = pandas.read_csv(path)
        assert len(table) and table.notice.eq(NOTICE).all(), path.name
        assert all(table[name].dtype.kind in "if" for name in table if name.endswith("_ml"))


def test_what_is_not_computed_is_empty_and_says_why() -> None:
    found = assessed(ranges={})
    (total,), (first, *_) = rows_of(found, "-total.csv"), rows_of(found)
    assert total["abc2_ml"] == "" and "abc2: ABC/2 is of one lesion" in total["not_computed"]
    for row in (total, first):
        assert row["range_low_ml"] == row["side"] == row["inner_table_mm"] == ""
        assert "range: The range from other boxes was not asked for." in row["not_computed"]
        assert (
            "side: No midline is given: hardly any voxel of the scan is bone" in row["not_computed"]
        )
        assert "inner_table: No distance is given" in row["not_computed"]


def test_growth_and_scores_are_rows_with_their_gaps_named() -> None:
    found = assessed(
        growth=growth(0.5, 0.8),
        role="follow-up",
        scores=scores(Findings(nihss=12, glucose_mg_dl=90)),
    )
    classic, absolute, revised = rows_of(found, "-growth.csv")
    assert classic["role"] == "follow-up"
    assert (classic["growth_ml"], classic["growth_percent"]) == ("0.3000", "60.0000")
    assert (classic["expansion"], absolute["expansion"], revised["expansion"]) == (
        "yes",
        "no",
        "yes",
    )
    assert classic["growth_ml_per_hour"] == ""
    assert (
        "growth_ml_per_hour: the hours between the scans are not known" in classic["not_computed"]
    )
    _, nag, _ = rows_of(found, "-scores.csv")
    assert (nag["score"], nag["score_total"], nag["score_least"], nag["score_most"]) == (
        *("NAG (Sakuta et al. 2018)", "", "1", "2"),
    )
    assert "anticoagulant at onset" in nag["not_computed"]


def test_tables_of_an_earlier_run_do_not_stay_beside_new_ones(tmp_path: Path) -> None:
    both = {"growth": growth(0.5, 0.8), "role": "baseline", "scores": scores(Findings(nihss=12))}
    first = replace(assessed(**both), timeline=over_time())
    names = [f"m{end}" for end in (".csv", *by_key("csv").beside)]
    assert [one.name for one in save_measures(tmp_path / "m.csv", first)] == names
    other, own = tmp_path / "n-growth.csv", tmp_path / "m-notes.csv"
    other.write_bytes((tmp_path / "m-growth.csv").read_bytes())
    own.write_text("mine")
    written = save_measures(tmp_path / "m.csv", assessed())
    assert [one.name for one in written] == names[:3]
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(
        [*names[:3], other.name, own.name]
    )


@pytest.mark.parametrize(
    "content", [b"", b"mine\n1", b"scan,volume_ml\na,1\n", b"\xff\xfe", b'"' * 9]
)
def test_what_is_no_table_of_this_program_stays(tmp_path: Path, content: bytes) -> None:
    for name in ("m-growth.csv", "m-scores.csv"):
        (tmp_path / name).write_bytes(content)
    save_measures(tmp_path / "m.csv", assessed())
    for name in ("m-growth.csv", "m-scores.csv"):
        assert (tmp_path / name).read_bytes() == content


def test_the_table_over_time_has_a_row_for_each_line_and_scan() -> None:
    rows = rows_of(replace(assessed(), timeline=over_time()), "-timeline.csv")
    assert [(row["line"], row["at_scan"], row["volume_ml"]) for row in rows] == [
        *(("Left", "1", "10.0000"), ("Left", "2", "20.0000"), ("Left", "3", "15.0000")),
        *(("New", "1", "0.0000"), ("New", "2", "2.0000"), ("New", "3", "0.0000")),
        *(("All", "1", "10.0000"), ("All", "2", "22.0000"), ("All", "3", "15.0000")),
    ]
    whole = rows[7]
    assert whole["counted"] == "intraparenchymal blood" and whole["at_scan_sha256"] == "1" * 64
    assert (whole["hours"], whole["from_baseline_growth_ml_per_hour"]) == ("4.0000", "3.0000")
    assert rows[8]["from_previous_growth_ml_per_hour"] == "-0.3500"
    assert rows[8]["from_baseline_within_measurement_error"] == "yes"
    assert rows[0]["from_baseline_growth_ml"] == rows[3]["from_previous_growth_ml"] == ""


def test_no_name_becomes_a_formula_in_a_spreadsheet() -> None:
    volume, labels = three_lesions()
    lesions = [replace(LESIONS[0], name="=HYPERLINK(1)"), *LESIONS[1:]]
    rows = rows_of(assess(labels, volume, lesions))
    assert {row["name"] for row in rows if row["lesion"] == "1"} == {"'=HYPERLINK(1)"}


# --- JSON --------------------------------------------------------------------------------------------


def test_the_record_holds_all_of_it() -> None:
    volume, labels = three_lesions()
    found = assessed(growth=growth(0.5, 0.8, hours=3), role="baseline")
    record = json.loads(encode(".json", found)[".json"])
    assert record["notice"] == NOTICE
    assert record["scan"] == json.loads(json.dumps(scan_record(volume)))
    assert record["boxes"] == [{"slice": 2, "lesion": 1, "box_xyxy": [9, 9, 21, 21.5]}]
    assert record["weights_sha256"] == SHA
    assert [(one["id"], one["is_blood"]) for one in record["lesions"]] == [
        (1, True),
        (2, True),
        (3, False),
    ]
    first = record["lesions"][0]
    assert first["volume_ml"] == pytest.approx(volume_ml(labels == 1, volume))
    assert first["range"]["high_ml"] == pytest.approx(0.6)
    assert record["lesions"][1]["range"] is None and "range" in record["lesions"][1]["not_computed"]
    assert record["total"]["abc2"] is None and "abc2" in record["total"]["not_computed"]
    assert record["growth"]["growth_ml_per_hour"] == pytest.approx(0.1)
    assert (record["role"], record["reading_error"]["between_raters_ml"]) == ("baseline", 7.7)


def test_an_empty_mask_has_tables_too() -> None:
    volume, labels = three_lesions()
    found = assess(labels * 0, volume, LESIONS)
    (row,) = rows_of(found, "-total.csv")
    assert rows_of(found) == rows_of(found, "-slices.csv") == []
    assert (row["volume_ml"], row["not_computed"]) == ("0.0000", "all: There is no voxel of it.")
    assert json.loads(encode(".json", found)[".json"])["lesions"] == []


# --- Files -------------------------------------------------------------------------------------------


def test_every_format_by_the_name_of_the_file(tmp_path: Path) -> None:
    found = assessed()
    begins = {
        ".pdf": b"%PDF-",
        ".csv": b"scan,",
        ".json": b"{",
        ".glb": b"glTF",
        ".stl": b"Research",
        ".seg.nrrd": b"NRRD",
        ".mha": b"ObjectType = Image",
    }
    for suffix, magic in begins.items():
        path = tmp_path / NAMES[suffix]
        if suffix in (".seg.nrrd", ".mha"):  # they hold no uneven series
            with pytest.raises(InputError, match="holds evenly spaced slices only"):
                save_measures(path, found)
            continue
        written = save_measures(path, found)
        assert written[0] == path and path.read_bytes().startswith(magic)
    assert NAMES.keys() == {*begins, ".dcm", ".sr.dcm", ".svg"}
    with pytest.raises(InputError, match="Volume against time is of two scans or more; got one"):
        save_measures(tmp_path / NAMES[".svg"], found)
    plot = tmp_path / NAMES[".svg"]
    save_measures(plot, replace(found, timeline=over_time()))
    assert plot.read_bytes().startswith(b"<?xml")
    assert {path.name for path in tmp_path.glob("*.csv")} == {
        *("measures.csv", "measures-total.csv", "measures-slices.csv"),
    }


WARNING = "The affine says 1.0 mm, the qform 0.5 mm: the volume is in doubt."


def read_text(path: Path) -> str:
    """What a file says, as its own format has it."""
    content = path.read_bytes()
    if path.suffix == ".pdf":
        pages = pypdfium2.PdfDocument(content)
        return " ".join(" ".join(page.get_textpage().get_text_range() for page in pages).split())
    if path.suffix == ".glb":
        length = int.from_bytes(content[12:16], "little")
        return str(json.loads(content[20 : 20 + length])["asset"]["extras"]["warnings"])
    return content.decode(errors="replace")


@pytest.mark.parametrize("suffix", [".pdf", ".csv", ".json", ".glb"])
def test_every_file_carries_the_warnings_that_were_shown(tmp_path: Path, suffix: str) -> None:
    found = assessed(growth=growth(0.5, 0.8), scores=scores(Findings(nihss=12)))
    warned = replace(found, volume=replace(found.volume, warnings=(WARNING,)))
    for path in save_measures(tmp_path / f"m{suffix}", warned):
        assert WARNING in read_text(path), path.name


def test_an_stl_has_room_to_say_that_there_are_warnings_and_for_no_more(tmp_path: Path) -> None:
    found = assessed()
    warned = replace(found, volume=replace(found.volume, warnings=(WARNING,)))
    headers = [encode(".stl", one)[".stl"][:80] for one in (found, warned)]
    assert [b"WARNED" in header for header in headers] == [False, True]
    assert headers[1].startswith(NOTICE.encode())


def test_what_cannot_be_written_is_refused_before_it_is_made(tmp_path: Path) -> None:
    found = assessed()
    with pytest.raises(InputError, match=r"one of \.pdf, .*; got a\.docx; name it e\.g\. report"):
        save_measures(tmp_path / "a.docx", found)
    with pytest.raises(InputError, match="there is no folder nowhere; make it first"):
        save_measures(tmp_path / "nowhere" / "a.pdf", found)
    with pytest.raises(
        InputError, match=r"phantom is NIfTI; write hematoma-\w{8}-mask-slices\.zip in place of"
    ):
        save_measures(tmp_path / "a.dcm", found)


def test_nothing_heavy_is_imported_for_a_table() -> None:
    code = (
        "import sys, ichseg.files.write, ichseg.files.mesh\n"
        "print([m for m in ('reportlab', 'trimesh', 'skimage', 'highdicom', 'torch') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
