"""Training a head on features that say where the blood is, and what is counted of its proposals, in closed form."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ichseg.errors import InputError
from ichseg.methods.catalogue import load_predictor
from ichseg.methods.detection import load_proposals
from ichseg.methods.frame import SliceFrame
from ichseg.methods.predictor import SliceEmbedding
from ichseg.methods.proposals import FindRule, find
from ichseg.methods.random_forest import SEEN
from ichseg.methods.threshold import ThresholdPredictor
from train.data.cache import Prepared
from train.data.features import Features
from train.proposals import (
    HeadExamples,
    ProposalsConfig,
    part_of,
    predict_held_out,
    rows_of,
    train_proposals,
)
from train.scores.confirmed import Finders
from train.scores.proposals import (
    Fold,
    ProposalRow,
    ScanRow,
    at_false,
    choose_accepted,
    dice_at,
    found_at,
    froc,
    held_out_of,
    measure,
    slice_auc,
)
from train.scores.scans import volume_of
from train.write.proposals import write_proposals

CONFIG = ProposalsConfig(width=8, cells=16, epochs=2, batch=2)
SPLIT = {
    "folds": [{"train": ["a", "b"], "validation": ["clear"], "test": ["stranger"]}],
}


class Bright(ThresholdPredictor):
    """A stand-in for the encoder, which sees how bright a place is and nothing else."""

    def embed(self, slice_hu: np.ndarray) -> SliceEmbedding:
        image = SliceFrame(slice_hu.shape).image(slice_hu, SEEN)
        features = np.zeros((1, 256, 64, 64), np.float16)
        features[0, :] = image.reshape(64, 4, 64, 4).mean(axis=(1, 3))
        return SliceEmbedding(slice_hu, features)


@pytest.fixture(scope="module")
def features(heads: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Features:
    made = Features(tmp_path_factory.mktemp("features"), heads)
    made.complete(Bright, lambda *_: None)
    return made


@pytest.fixture(scope="module")
def run(features: Features, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "fold-0"
    train_proposals(CONFIG, features, SPLIT, 0, out, device="cpu")
    return out


# Features


def test_features_are_of_each_slice_and_its_neighbours(heads: Prepared, features: Features) -> None:
    row = features.rows.index(("b", "b", 2))
    assert features.rows[features.below[row]] == ("b", "b", 1)
    assert features.rows[features.above[row]] == ("b", "b", 3)
    first, last = features.rows.index(("b", "b", 0)), features.rows.index(("b", "b", 8))
    assert (features.below[first], features.above[last]) == (first, last)
    hu, mask = heads.slice_hu("b", 2), heads.mask("b", 2)
    frame = SliceFrame(mask.shape)
    assert np.array_equal(features.array("mask")[row], frame.mask(mask))
    assert features.array("image")[row] / 255 == pytest.approx(frame.image(hu, SEEN), abs=1 / 500)
    assert features.array("emb")[row].shape == (256, 64, 64)


def test_features_that_are_there_are_not_made_again(features: Features) -> None:
    def refuse() -> Bright:
        raise AssertionError("asked to embed again")

    Features(features.folder, features.prepared).complete(refuse, lambda *_: None)
    (features.folder / "emb.done").write_text("35")
    told: list[tuple[str, int, int]] = []
    features.complete(Bright, lambda *one: told.append(one))
    assert told == [("emb", 36, 36)]


def test_features_of_other_data_are_refused(heads: Prepared, tmp_path: Path) -> None:
    (tmp_path / "features.json").write_text('{"data_sha256": "other"}')
    with pytest.raises(InputError, match="give another --features"):
        Features(tmp_path, heads)


def test_a_folds_own_adapter_embeds_what_the_fold_needs_alone(
    heads: Prepared, tmp_path: Path
) -> None:
    class Dark(Bright):
        def embed(self, slice_hu: np.ndarray) -> SliceEmbedding:
            return super().embed(-np.asarray(slice_hu))

    part = part_of(SPLIT, 0)
    shared = Features(tmp_path, heads)
    shared.complete_images(lambda *_: None)
    rows = rows_of(shared, part)
    # All slices of the patient that is held out; of the others all here, for there are fewer than would be drawn.
    held_out = np.array([name == "stranger" for _, name, _ in shared.rows])
    marked = shared.array("mask").any(axis=(1, 2))
    assert rows[held_out].all() and rows[marked].all()
    rows &= held_out | marked
    mine = shared.by("fold-0/adapter", {"adapter": "1"}, "fold-0", rows)
    told: dict[str, int] = {}
    mine.complete(Dark, lambda name, done, _: told.update({name: done}))
    assert told == {"emb": rows.sum()}
    assert not (tmp_path / "emb.npy").exists()
    row = int(np.flatnonzero(held_out)[0])
    scan, _, k = mine.rows[row]
    dark = Dark().embed(heads.slice_hu(scan, k)).features
    assert np.array_equal(mine.array("emb")[row], dark[0])
    assert not mine.array("emb")[~rows].any()
    clean = HeadExamples(CONFIG, mine, ["a", "b", "clear"]).clean
    assert not len(clean), "what has no embedding is not trained on"
    # Found again, it is not made again; of another adapter, or of other slices, it is refused.
    shared.by("fold-0/adapter", {"adapter": "1"}, "fold-0", rows).complete(
        lambda: pytest.fail("asked to embed again"), lambda *_: None
    )
    for identity, other in (({"adapter": "2"}, rows), ({"adapter": "1"}, ~rows)):
        with pytest.raises(InputError, match="is of one network and of the same slices"):
            shared.by("fold-0/adapter", identity, "fold-0", other)


def test_a_head_says_whose_embedding_it_reads(heads: Prepared, tmp_path: Path) -> None:
    features = Features(tmp_path / "features", heads)
    features.complete_images(lambda *_: None)
    part = part_of(SPLIT, 0)
    mine = features.by("threshold", {}, "fold-0", rows_of(features, part))
    mine.complete(Bright, lambda *_: None)
    config = dataclasses.replace(CONFIG, epochs=1)
    model = train_proposals(config, mine, SPLIT, 0, tmp_path / "fold-0", device="cpu")
    assert load_proposals(str(model)).embedded_by == "threshold"


# Training


def test_an_epoch_has_all_blood_and_as_many_slices_without(features: Features) -> None:
    rows = HeadExamples(CONFIG, features, ["a", "b", "clear"])
    order = rows.order(0)
    assert len(rows) == len(order) == 6
    marked = [bool(features.array("mask")[row].any()) for row in order]
    assert sum(marked) == 3
    assert sorted(rows.order(0)) == sorted(order)
    # What fooled it comes again: half of the clean ones are those, and one not seen yet counts as such.
    rows.fooled[:] = 0
    rows.remember(rows.clean[[4]], torch.tensor([3.0]))
    assert rows.clean[4] in rows.order(1)


def test_a_run_that_was_interrupted_gives_the_same_weights(
    features: Features, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "fold-0"
    train_proposals(CONFIG, features, SPLIT, 0, out, device="cpu", stop_after_steps=3)
    assert not (out / "model").exists()
    with pytest.raises(InputError, match="add --resume"):
        train_proposals(CONFIG, features, SPLIT, 0, out, device="cpu")
    train_proposals(CONFIG, features, SPLIT, 0, out, device="cpu", resume=True)
    here, there = (load_file(one / "model" / "model.safetensors") for one in (out, run))
    assert all(torch.equal(here[name], there[name]) for name in there)
    training = json.loads((run / "model" / "training.json").read_text())
    assert training["split"]["test"] == ["stranger"]
    assert training["split"]["train"] == ["a", "b", "clear"]


def test_a_run_of_another_version_is_not_gone_on_with(
    features: Features, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "fold-0"
    shutil.copytree(run, out, ignore=shutil.ignore_patterns("model"))
    config = json.loads((out / "config.json").read_text()) | {"implants": 0}
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="the configuration it began with"):
        train_proposals(CONFIG, features, SPLIT, 0, out, device="cpu", resume=True)


# Scores


def scan(patient: str, lesion_px: str, part: str = "fold-0", **more: object) -> ScanRow:
    px = sum(map(int, lesion_px.split()))
    given = {"slice_px": f"0 {px}", "suspicion": "0.1 0.9"} | more
    return ScanRow(
        patient, "edh" if px else "none", part, "", 0.001, px, lesion_px, seconds=1.0, **given
    )


def proposal(patient: str, score: float, number: int, **more: object) -> ProposalRow:
    given = {"px": 100, "blood_px": 0, "lesions": "", "taken_own_px": 0, "taken_own_blood_px": 0}
    return ProposalRow(
        patient, "fold-0", "", 0.35, number, score, score, 0.1, boxes=1, **(given | more)
    )


SCANS = [scan("a", "100 1000"), scan("b", "200"), scan("c", "", suspicion="0.5 0.2")]
ROWS = [
    proposal("a", 0.9, 1, blood_px=90, lesions="0:90", taken_px=110, taken_blood_px=90),
    proposal("a", 0.6, 2, blood_px=60, lesions="1:60", taken_px=210, taken_blood_px=150),
    proposal("a", 0.4, 3, blood_px=50, lesions="1:50", taken_px=310, taken_blood_px=200),
    proposal("b", 0.3, 1, blood_px=9, taken_px=100, taken_blood_px=0),
    proposal("c", 0.7, 1, taken_px=500, taken_blood_px=0),
]


def test_the_curve_counts_lesions_and_false_proposals() -> None:
    points = froc(SCANS, ROWS)
    assert [point.least for point in points] == [0.9, 0.7, 0.6, 0.4, 0.3]
    # 60 of 1000 pixels are not found; with 50 more they are.
    assert [point.sensitivity for point in points] == pytest.approx(
        [1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3]
    )
    assert [point.false_a_scan for point in points] == pytest.approx(
        [0, 1 / 3, 1 / 3, 1 / 3, 2 / 3]
    )
    assert at_false(points, 0.5).least == 0.4
    assert at_false(points, 0.1).sensitivity == pytest.approx(1 / 3)
    assert found_at(SCANS, ROWS, 0.5) == {("a", 0): True, ("a", 1): False, ("b", 0): False}


def test_dice_is_of_what_is_taken_from_a_score_on() -> None:
    assert dice_at(SCANS, ROWS, 0.5) == {
        "a": pytest.approx(2 * 150 / (210 + 1100)),
        "b": 0,
    }
    assert dice_at(SCANS, ROWS, 0.95) == {"a": 0, "b": 0}
    assert choose_accepted([*SCANS, scan("d", "10", "fold-1")], ROWS, "fold-1") == 0.05


def test_slices_with_blood_are_told_from_those_without() -> None:
    # With blood 0.9 and 0.9; without 0.1, 0.1, 0.5, 0.2.
    assert slice_auc(SCANS) == 1
    assert slice_auc([scan("a", "5", suspicion="0.9 0.3"), SCANS[2]]) == pytest.approx(1 / 3)


def test_folds_are_scored_through_the_librarys_own_parts(
    features: Features, run: Path, tmp_path: Path
) -> None:
    predict_held_out(features, run, device="cpu")
    written = (run / "held-out.npz").stat().st_mtime_ns
    predict_held_out(features, run, device="cpu")
    assert (run / "held-out.npz").stat().st_mtime_ns == written
    hashes = load_proposals(str(run / "model")).weights_sha256
    folds = [Fold("fold-0", hashes, run / "held-out.npz", "threshold", ("stranger",))]
    scans, regions, rows, rules = measure(folds, features.prepared, tmp_path, load_predictor)
    assert [one.patient for one in scans] == ["stranger"]
    assert len(scans[0].suspicion.split()) == 9
    assert {row.extent for row in rows} <= {rules["fold-0"].extent}
    again = measure(folds, features.prepared, tmp_path, load_predictor)
    assert [one.suspicion for one in again[0]] == [one.suspicion for one in scans]
    assert again[3] == rules
    text = write_proposals(tmp_path, scans, regions, rows, rules, refinement=False)
    assert "automatic Dice per patient" in text
    made = json.loads((tmp_path / "summary.json").read_text())
    assert FindRule(**made["rule"]).extent in (0.2, 0.35, 0.5)
    assert made["rules"].keys() == {"fold-0"}

    adapters = tmp_path / "adapters" / "fold-0"
    adapters.mkdir(parents=True)
    (adapters / "split.json").write_text(json.dumps(part_of(SPLIT, 0)))
    finders = Finders(run.parent, tmp_path / "summary.json", adapters.parent)
    stranger = features.prepared.scans["stranger"]
    volume = volume_of(features.prepared, stranger)
    rule = FindRule(**made["rules"]["fold-0"])
    shown = find(held_out_of(folds[0], stranger)[0], volume, rule)
    assert [one.boxes for one in finders.of("fold-0")(stranger, volume)] == [
        one.boxes for one in shown
    ]
    assert finders.identity("fold-0")["finder"] == hashes
    (tmp_path / "summary.json").write_text(json.dumps({"rules": {}}))
    with pytest.raises(InputError, match="has none for fold-0; run `train froc`"):
        Finders(run.parent, tmp_path / "summary.json", adapters.parent)
