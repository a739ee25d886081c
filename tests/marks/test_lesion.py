"""THE table of lesion types, and a type that is added to it from outside."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import phantoms
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode

from ichseg.cli.main import main
from ichseg.errors import InputError, LesionError
from ichseg.files.dicom_seg import segmentation_bytes
from ichseg.files.labels import types_of_labels, usual_types
from ichseg.files.mask import read_labelled_mask
from ichseg.files.nrrd_mask import mask_bytes
from ichseg.files.segments import codes_of, type_of
from ichseg.marks.document import Segmentation
from ichseg.marks.lesion import TYPES, UNSPECIFIED, Code, Lesion, LesionType, type_named
from ichseg.measures.followup import Blood, between
from ichseg.page.layout import lesion_types
from ichseg.scan.read import read_volume

CYST = LesionType(
    "cyst",
    "hemorrhagic cyst",
    Code("12494005", "Cyst"),
    Code("12738006", "Brain"),
    also=("pseudocyst",),
)


@pytest.fixture
def cyst(monkeypatch: pytest.MonkeyPatch) -> LesionType:
    """The table with one more row, and nothing else changed."""
    monkeypatch.setitem(TYPES, CYST.name, CYST)
    return CYST


def test_an_added_type_is_a_type_everywhere(cyst: LesionType) -> None:
    marked = Segmentation((2, 4, 4))
    number = marked.add_lesion(type=cyst.name)
    assert marked.lesion(number).is_blood
    assert lesion_types()[-1] == {"name": "cyst", "title": "Hemorrhagic cyst"}
    assert types_of_labels(["3=Cyst"]) == {3: "cyst"}
    assert type_named("Pseudocyst") == "cyst"
    with pytest.raises(InputError, match=r"SAH, oedema, cyst; got '3=tumour'"):
        types_of_labels(["3=tumour"])
    with pytest.raises(LesionError, match=r"oedema, cyst; got 'tumour'"):
        Lesion(1, type="tumour")


def test_an_added_type_is_counted_in_a_growth(cyst: LesionType) -> None:
    before = Blood.of([(Lesion(1, type="cyst"), 10.0), (Lesion(2, type="IVH"), 1.0)])
    after = Blood.of([(Lesion(1, type="cyst"), 17.0), (Lesion(2, type="IVH"), 1.0)])
    found = between(before, after)
    assert (found.of, found.growth_ml) == ("not ivh", 7.0)
    fluid = LesionType("fluid", "fluid", cyst.code, cyst.region, is_blood=False)
    TYPES["fluid"] = fluid
    try:
        assert Blood.of([(Lesion(1, type="fluid"), 3.0)]).total_ml == 0
    finally:
        del TYPES["fluid"]


def test_an_added_type_is_written_and_read_with_its_code(cyst: LesionType, tmp_path: Path) -> None:
    images = phantoms.dicom_slices(phantoms.speckled_head(), [5.0 * k for k in range(9)])
    volume = read_volume(phantoms.save_dicom(tmp_path / "ct", images))
    labels = np.zeros(volume.shape_zyx, dtype=np.uint8)
    labels[3:5, 10:20, 10:20] = 4
    lesions = [Lesion(4, "Left", type="cyst")]
    content = segmentation_bytes(labels, volume, lesions)
    segment = pydicom.dcmread(io.BytesIO(content)).SegmentSequence[0]
    kind, region = (
        segment.SegmentedPropertyTypeCodeSequence[0],
        segment.AnatomicRegionSequence[0],
    )
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("12494005", "SCT")
    assert (region.CodeValue, region.CodeMeaning) == ("12738006", "Brain")
    assert segment.SegmentDescription.startswith("hemorrhagic cyst. ")
    nrrd = mask_bytes(".seg.nrrd", labels, volume, lesions, {"lesions": []})
    assert b"SCT^12494005^Cyst" in nrrd
    for name, data in (("m.dcm", content), ("m.seg.nrrd", nrrd)):
        (tmp_path / name).write_bytes(data)
        found = read_labelled_mask(tmp_path / name, volume)
        assert [(one.name, one.type) for one in found.lesions] == [("Left", "cyst")]
        np.testing.assert_array_equal(found.labels_zyx != 0, labels != 0)


def test_the_command_line_takes_an_added_type(
    cyst: LesionType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hu_zyx, blood = phantoms.head_hu()
    scan = phantoms.save_nifti(tmp_path / "head.nii.gz", hu_zyx)
    mask = phantoms.save_nifti(tmp_path / "mask.nii.gz", blood.astype(np.uint8))
    arguments = ["ichseg", "measure", str(scan), str(mask), "--label", "1=cyst", "--json"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    found = json.loads(capsys.readouterr().out)
    assert [one["type"] for one in found["baseline"]["lesions"]] == ["cyst"]


def test_codes_are_dicoms_own_where_it_has_them() -> None:
    """CID 7151 and 7153 of PS3.16, as pydicom has them; every other code is of the same form."""
    assert codes_of("IVH")[0] == codes.SCT.Hemorrhage
    assert codes_of("oedema")[0] == codes.SCT.Edema
    assert codes_of("IPH")[1] == codes.SCT.Brain
    for row in TYPES.values():
        for code in codes_of(row.name):
            assert code.scheme_designator == "SCT" and re.fullmatch(r"\d{6,18}", code.value)
            assert len(code.meaning) <= 64


def test_each_rows_code_and_names_mean_that_row_alone() -> None:
    for row in TYPES.values():
        kind, region = codes_of(row.name)
        assert type_of(kind, [region], "") == row.name
        for name in (row.name, row.title, *row.also):
            assert (
                type_of(DicomCode("85756007", "SCT", "Tissue"), [], f" {name.upper()} ") == row.name
            )
    assert type_of(codes.SCT.Hemorrhage, [], "") == UNSPECIFIED


def test_what_the_program_counts_on_is_in_the_table() -> None:
    """One row each: the type of who says nothing, the parenchyma's blood, the ventricles', and the usual labels."""
    assert [row.name for row in TYPES.values() if row.is_parenchymal] == ["IPH"]
    assert [row.name for row in TYPES.values() if row.is_ventricular] == ["IVH"]
    assert [row.name for row in TYPES.values() if not row.is_blood] == ["oedema"]
    assert usual_types() == {1: "IPH", 2: "IVH"}
    assert next(iter(TYPES)) == UNSPECIFIED
    assert all(name == row.name for name, row in TYPES.items())
