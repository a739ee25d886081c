"""The digital phantoms' design, how their scores are counted, and what the document says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ichseg.methods import model_error
from ichseg.methods import weights as weight_files
from ichseg.methods.threshold import ThresholdPredictor
from tools.phantom import register
from tools.phantom.design import BLOOD_HU, LEAST_ML, PARENCHYMAL, designs, of_part
from tools.phantom.make import Phantom
from tools.phantom.pairs import HELD_OUT_SEED, pairs
from tools.phantom.report import write, write_errors
from tools.phantom.score import BOXES_PX, Measured, agreement, boxes_on, found_masks, measured

DESIGN = next(one for one in designs() if one.kind == "lobar")


def disc(radius_px: float = 12.0, blood_hu: int = 70) -> Phantom:
    """Three slices of 64 x 64; the one in the middle has a disc of blood, sharp and whole, in tissue of 35 HU."""
    y, x = np.mgrid[:64, :64]
    share = np.zeros((3, 64, 64), dtype=np.float32)
    share[1] = np.hypot(y - 31.5, x - 31.5) <= radius_px
    hu = np.where(share > 0, blood_hu, 35).astype(np.int16)
    return Phantom(hu, share, (5.0, 0.5, 0.4))


def test_a_phantoms_volume_is_the_sum_of_the_shares_of_its_voxels(tmp_path: Path) -> None:
    phantom = disc()
    pixels = int(phantom.share_zyx.sum())
    assert phantom.volume_ml == pytest.approx(pixels * 5.0 * 0.5 * 0.4 / 1000)
    phantom.save(tmp_path / "one.npz")
    again = Phantom.load(tmp_path / "one.npz")
    np.testing.assert_array_equal(again.hu_zyx, phantom.hu_zyx)
    np.testing.assert_array_equal(again.share_zyx, phantom.share_zyx)
    assert again.spacing_mm == phantom.spacing_mm


def test_boxes_lie_as_many_pixels_off_the_blood_as_they_are_loose() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:20, 15:30] = True
    mask[35, 50:53] = True  # too small for anybody to box
    for margin_px in BOXES_PX.values():
        (box,) = boxes_on(mask, margin_px)
        wide = (15 - margin_px, 10 - margin_px, 30 + margin_px, 20 + margin_px)
        assert box.xyxy == tuple(float(value) for value in wide)


def test_a_method_is_scored_against_the_true_volume_and_its_mask_is_kept(tmp_path: Path) -> None:
    phantom, kept = disc(), tmp_path / "kept.npz"
    found = found_masks(ThresholdPredictor(), phantom, kept, 8)
    rows = {row.edge: row for row in measured(phantom, DESIGN, "threshold", "loose", found)}
    assert rows[False].true_ml == pytest.approx(phantom.volume_ml)
    assert rows[False].found_ml == pytest.approx(found.sum() * phantom.voxel_ml)
    assert abs(rows[False].difference) < 0.02 and rows[False].dice > 0.98
    # The kept mask is read in place of asking again.
    np.savez_compressed(kept, shape=np.array(found.shape), bits=np.packbits(np.zeros_like(found)))
    assert not found_masks(ThresholdPredictor(), phantom, kept, 8).any()


def rows_of(method: str, differences: list[float]) -> list[Measured]:
    return [
        Measured(f"{n:03d}-lobar", "lobar", method, boxes, edge, 10.0, 10.2, 10 * (1 + d), 0.9)
        for n, d in enumerate(differences)
        for boxes in BOXES_PX
        for edge in (False, True)
    ]


def test_bias_and_limits_are_the_mean_and_1_96_standard_deviations_about_it() -> None:
    rows = rows_of("litemedsam", [0.01, 0.03])[::4]  # one row a phantom
    bias, low, high = agreement(rows)
    assert bias == pytest.approx(0.02)
    spread = 1.96 * np.sqrt(2) * 0.01
    assert (low, high) == pytest.approx((0.02 - spread, 0.02 + spread))


def test_the_document_of_held_out_phantoms_stands_beside_the_other(tmp_path: Path) -> None:
    rows = rows_of("litemedsam", [0.01, 0.03])
    first = write(tmp_path, rows)
    second, third = (write(tmp_path, rows, part=part) for part in ("second", "third"))
    held = write(tmp_path, rows, part="held-out")
    names = {path.name for path in tmp_path.iterdir()}
    stems = {"phantoms.md", "phantoms.csv", "bland-altman.png"}
    others = {
        f"{name}.{end}" for name in ("second", "third", "held-out") for end in ("md", "csv", "png")
    }
    assert names == stems | others
    assert all("those of a fit" in " ".join(text.split()) for text in (first, second, third))
    assert "Nothing was chosen on these phantoms" in held
    assert "| LiteMedSAM | both | 2 | +2.0% |" in held


def test_a_methods_error_is_put_beside_its_weights_and_said_as_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "litemedsam-rslora"
    folder.mkdir()
    (folder / weight_files.TRAINING_FILE).write_text("{}")
    rows = rows_of("litemedsam-rslora", [-0.01, 0.03]) + rows_of("threshold", [0.5])
    write_errors(rows, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"litemedsam-rslora"}
    said = model_error._on_phantoms(folder / weight_files.PHANTOMS_FILE)
    assert "On 2 synthetic heads" in said
    assert "+1.0 % on average, with 95 % limits of −3.5 % to +5.5 %" in said
    assert model_error._on_phantoms(None) == ""


def test_held_out_phantoms_are_parenchymal_and_none_of_those_that_constants_were_chosen_on() -> (
    None
):
    chosen = [designs(), of_part("second"), of_part("third")]
    own = {one.seed for part in chosen for one in part}
    for one in of_part("held-out"):
        assert one.kind in PARENCHYMAL and one.volume_ml >= LEAST_ML
        assert BLOOD_HU[0] <= one.blood_hu <= BLOOD_HU[1]
        assert one.seed not in own


def test_the_follow_up_of_a_pair_is_turned_by_20_degrees_at_most_and_moved_by_30_mm() -> None:
    for pair in pairs()[:60]:
        cosine = (np.trace(pair.motion[:3, :3]) - 1) / 2
        assert np.degrees(np.arccos(np.clip(cosine, -1, 1))) <= 20.01
        moved = np.subtract(pair.followup.shift_mm, pair.baseline.shift_mm)
        assert np.linalg.norm(moved) <= 30.01
        grown = (pair.followup.clot_scale / pair.baseline.clot_scale) ** 3
        assert grown == pytest.approx(1 + pair.growth_percent / 100, rel=1e-2)


def test_the_table_of_registrations_counts_what_is_near_and_what_is_sure(tmp_path: Path) -> None:
    def row(number: int, error: float | None, sure: bool) -> register.Registered:
        return register.Registered(
            *(number, error is not None, 9.0, 9.0, "5, 1.25", "0, 0", 50.0, False, error, sure),
            *(0.4, 0.9, 500.0, 4.0),
        )

    rows = [row(0, 0.5, True), row(1, 2.5, True), row(60, None, False)]
    text = register.write(tmp_path, rows, HELD_OUT_SEED)
    assert "| one head | 2 | 1 (50%) | 1.50 (2.40, 2.50) | 2 |" in text
    assert "| two heads | 1 |  |  | 0 |" in text
    assert (tmp_path / "registration.csv").read_text().count("\n") == 4
