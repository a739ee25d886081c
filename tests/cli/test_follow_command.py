"""``ichseg follow``: two scans and a marked baseline in, the growth out, with no box on the follow-up."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from ichseg.cli import main as cli
from ichseg.files.nifti_mask import read_mask
from ichseg.measures.volume import volume_ml
from ichseg.scan.read import read_volume
from ichseg.scan.registration import Registration
from ichseg.scan.volume import CTVolume
from tests.two_heads import MOTION, OTHER, baseline, scanned


def save(path: Path, array_zyx: npt.NDArray[np.generic], volume: CTVolume) -> Path:
    """An array of a scan's grid as NIfTI, x from the patient's right to left as the array has it."""
    nib.save(nib.Nifti1Image(array_zyx.transpose(2, 1, 0), volume.geometry.affine), path)
    return path


def test_a_follow_up_is_marked_by_its_baseline_and_the_growth_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (own, clot) = baseline(16.0)
    later, grown = scanned(OTHER, np.arange(-50, 80, 5), clot_radius_mm=20.0, seed=1)
    scan, other = (
        save(tmp_path / name, volume.hu_zyx, volume)
        for name, volume in (("first.nii.gz", own), ("second.nii.gz", later))
    )
    mask = save(tmp_path / "mask.nii.gz", clot.astype(np.uint8), own)
    out = tmp_path / "followup-mask.nii.gz"

    def run(*options: object) -> tuple[int, str, str]:
        command = ["ichseg", "follow", scan, mask, other, "--model", "threshold", *options]
        monkeypatch.setattr(sys, "argv", list(map(str, command)))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int | None)
        return ended.value.code or 0, said.out, said.err

    code, text, _ = run("--hours", 8, "--label", "1=IPH", "--out", out, "--json")
    found = json.loads(text)
    assert code == 0
    true = 100 * (volume_ml(grown, later) / volume_ml(clot, own) - 1)
    assert found["growth"]["growth_percent"] == pytest.approx(true, abs=5)
    assert found["growth"]["growth_ml_per_hour"] == found["growth"]["growth_ml"] / 8
    assert [one["type"] for one in found["growth"]["lesions"]] == ["IPH"]
    assert found["registration"]["sure"] and found["lost"] == []
    places_mm = np.array([[-24.0, 4, 12], [30, 30, 10]])
    np.testing.assert_allclose(
        Registration(np.array(found["registration"]["matrix"]), None).to_baseline(places_mm),
        Registration(MOTION, None).to_baseline(places_mm),
        atol=2,
    )
    written = read_mask(out, read_volume(other))
    assert volume_ml(written, later) == pytest.approx(found["followup"]["volume_ml"])
    assert found["record"]["model"] == "threshold" and found["record"]["boxes"]

    # Two follow-ups, each by the baseline; the rest needs no registration anew.
    known = Registration(np.array(found["registration"]["matrix"]), None)
    monkeypatch.setattr("ichseg.measures.carried.register", lambda *_, **__: known)
    plot = tmp_path / "over-time.svg"
    outs = ("--out", out, "--out", plot, "--unsure")
    code, text, _ = run(other, "--hours", 8, "--hours", 9, "--label", "1=IPH", *outs, "--json")
    found = json.loads(text)
    ml = [point["ml"] for point in found["timeline"]["lesions"][0]["points"]]
    assert code == 0 and ml[1] == ml[2] == pytest.approx(found["followup"]["volume_ml"])
    assert found["further"][0]["volume_ml"] == ml[2] and found["further"][0]["record"]["boxes"]
    third = read_mask(tmp_path / "followup-mask-scan3.nii.gz", read_volume(other))
    np.testing.assert_array_equal(third, read_mask(out, read_volume(other)))
    assert "9 h" in plot.read_text()

    unsure = Registration(np.array(found["registration"]["matrix"]), None)
    monkeypatch.setattr("ichseg.measures.carried.register", lambda *_, **__: unsure)
    code, text, error = run()
    assert (code, text) == (2, "") and error.count("\n") == 1
    assert "The registration is unsure" in error and "--unsure goes on all the same." in error
    code, text, _ = run("--unsure")
    assert code == 0 and "The registration is unsure" in text and "Growth of all blood" in text
