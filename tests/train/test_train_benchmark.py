"""The comparison on three made-up patients, whose every score follows from the geometry."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from ichseg.errors import InputError
from ichseg.marks.box import Box
from ichseg.methods import catalogue
from ichseg.methods import weights as weight_files
from ichseg.methods.catalogue import load_predictor
from ichseg.methods.in_box import InBoxPredictor
from ichseg.methods.predictor import SliceEmbedding
from tests.train.scans import write_scan
from train.__main__ import app
from train.data.cache import Prepared, prepare
from train.data.slices import NativeSlice, native_slices
from train.recipes import RECIPES, ForestConfig, NetworkConfig
from train.scores import benchmark as bench
from train.scores.evaluate import Score
from train.write import benchmark as document
from train.write import figure

#: Each patient's blood as (x0, x1, y0, y1) on the slice of 256 x 256, its one slice of two.
SQUARES = {
    "one": [(100, 140, 60, 80)],
    "two": [(40, 60, 60, 80), (120, 140, 60, 80)],
    "three": [(60, 100, 100, 140), (130, 150, 100, 120), (180, 200, 120, 140)],
}
DIM = bench.Method("threshold", "Threshold in the box")
TUNED = bench.Method("litemedsam-rslora", "LiteMedSAM + rsLoRA, best recipe", "crops")
GONE = bench.Method("medsam", "MedSAM (ViT-B)", None, bench.Published((0.8469, 0.7499)))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    root = tmp_path_factory.mktemp("data")
    for name, squares in SQUARES.items():
        blood = np.zeros((256, 256, 2), bool)
        for x0, x1, y0, y1 in squares:
            blood[x0:x1, y0:y1, 1] = True
        hu = np.full(blood.shape, 36.0)
        hu[:8] = -1000
        write_scan(root, name, hu + 26 * blood, blood)
    return prepare("folder", root, tmp_path_factory.mktemp("cache"))


def row(name: str, dice: dict[str, Sequence[float]]) -> bench.Row:
    """A method with these Dice per slice, by patient."""
    empty = Score("", "", 0, "", "slice", 0, 0, 0, float("nan"), 10, 10, 1, 0.5)
    found = bench.Row(bench.Method(name, name))
    found.scores = [
        replace(empty, patient=patient, scan=patient, slice=k, dice=value, protocol=protocol)
        for protocol in ("slice", "component")
        for patient, values in dice.items()
        for k, value in enumerate(values)
    ]
    return found


# The figures of the table


@pytest.fixture(scope="module")
def made(
    prepared: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, str]], str]:
    """The whole command on the threshold, one row that lacks its run and one that lacks its weights."""
    out = tmp_path_factory.mktemp("out")
    runs = tmp_path_factory.mktemp("runs")
    arguments = ["benchmark", "--data", str(prepared.folder), "--runs", str(runs)]
    arguments += ["--out", str(out), "--models", "threshold,unet,medsam"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    with (out / "benchmark.csv").open() as file:
        return out, list(csv.DictReader(file)), (out / "benchmark.md").read_text()


def test_the_thresholds_scores_are_those_of_the_geometry(
    made: tuple[Path, list[dict[str, str]], str], prepared: Prepared
) -> None:
    """36 and 62 HU without noise: a 3 x 3 median takes the four corner pixels of each square, and nothing else."""
    found = {one["boxes"]: one for one in made[1] if one["method"] == "threshold"}
    assert set(found) == {"slice", "component"}
    dice, jaccard, differences = [], [], []
    for squares in SQUARES.values():
        reference = sum((x1 - x0) * (y1 - y0) for x0, x1, y0, y1 in squares)
        mask = reference - 4 * len(squares)
        dice.append(2 * mask / (mask + reference))
        jaccard.append(mask / reference)
        differences.append((reference - mask) / reference)
    for boxes in ("slice", "component"):
        one = found[boxes]
        assert (one["slices"], one["patients"]) == ("3", "3")
        for scope in ("", "patient_"):  # one slice a patient: the same
            for name, values in (
                ("dice", dice),
                ("jaccard", jaccard),
                ("volume_difference", differences),
            ):
                assert float(one[f"{scope}{name}_mean"]) == pytest.approx(np.mean(values), rel=1e-3)
                assert float(one[f"{scope}{name}_sd"]) == pytest.approx(
                    np.std(values, ddof=1), rel=0.02
                )
        assert (one["parameters"], one["trainable"], one["takes_box"]) == ("0", "0", "True")
        assert float(one["seconds_a_slice"]) > 0
        assert "torch" in one["timed_on"]


def test_what_cannot_run_is_a_row_with_its_reason_and_no_figure_of_its_own(
    made: tuple[Path, list[dict[str, str]], str],
) -> None:
    absent = {one["method"]: one for one in made[1] if one["not_run_because"]}
    assert "unet" in absent and "fold-0" in absent["unet"]["not_run_because"]
    named = {"method", "title", "not_run_because"}
    assert not {key for key, value in absent["unet"].items() if value and key not in named}
    assert "- U-Net: A cross-validated run holds" in made[2]
    if "medsam" in absent:  # unless its weights are on this machine
        assert absent["medsam"]["published_dice"] == "0.8469"
        assert absent["medsam"]["dice_mean"] == ""


def test_the_table_says_how_it_is_to_be_read(
    made: tuple[Path, list[dict[str, str]], str],
) -> None:
    for text in (
        "3 patients",
        "optimistic",
        "private scans",
        "0.8469",
        "paired",
        "not run here",
        "no image of the data set",
    ):
        assert text in made[2]


def test_the_figure_opens(made: tuple[Path, list[dict[str, str]], str]) -> None:
    with Image.open(made[0] / "figure.png") as image:
        image.load()
        assert image.width > 300 and image.height > 300
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 5


# Paired differences


def test_a_gain_is_paired_over_the_slices_that_both_have() -> None:
    base = row("litemedsam", {"a": [0.4, 0.6], "b": [0.5], "c": [0.1]})
    other = row("x", {"a": [0.5, 0.8], "b": [0.9]})
    found = document.difference(other, base, "slice")
    assert found is not None
    assert found.mean == pytest.approx((0.1 + 0.2 + 0.4) / 3)
    assert (found.n, found.n_patients) == (3, 2)
    # two patients drawn from two: both a, one of each, both b; so the interval is that of these means
    assert found.interval == pytest.approx((0.15, 0.4))
    assert document.difference(other, base, "slice") == found  # the same draws each time
    assert document.difference(row("y", {"d": [0.5]}), base, "slice") is None


class Nothing(InBoxPredictor):
    """Finds nothing, and takes no box."""

    name = title = "nothing"
    takes_box = False

    def find(self, inside_hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
        return np.zeros(inside_hu.shape, bool)


class Sleeps(Nothing):
    """Takes a twentieth of a second to look at a slice, and one of them a second."""

    name = title = "sleeps"

    def __init__(self) -> None:
        self.seen = 0

    def embed(self, slice_hu: npt.ArrayLike) -> SliceEmbedding:
        self.seen += 1
        time.sleep(1 if self.seen == 3 else 0.05)
        return super().embed(slice_hu)


def test_time_is_the_median_after_a_first_look(prepared: Prepared) -> None:
    predictor = Sleeps()
    found = bench.time_slices(predictor, list(native_slices(prepared)))
    assert predictor.seen == 4  # the first is not counted, and the slow one is not the median
    assert set(found) == {"slice", "component"}
    assert all(0.05 <= value < 1 for value in found.values())


# Going on, and going on only where it may


def run(prepared: Prepared, runs: Path, out: Path, *wanted: bench.Method) -> list[tuple[int, int]]:
    steps: list[tuple[int, int]] = []
    document.benchmark(prepared, runs, out, wanted=wanted, on_done=lambda *done: steps.append(done))
    return steps


def scores(out: Path) -> list[dict[str, str]]:
    """The table without what depends on the moment."""
    with (out / "benchmark.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [
        {key: row[key] for key in row if key not in ("seconds_a_slice", "timed_on")} for row in rows
    ]


def test_a_run_that_was_stopped_goes_on(prepared: Prepared, tmp_path: Path) -> None:
    assert run(prepared, tmp_path, tmp_path / "out", DIM) == [(1, 3), (2, 3), (3, 3)]
    first = scores(tmp_path / "out")
    assert run(prepared, tmp_path, tmp_path / "out", DIM) == []
    assert scores(tmp_path / "out") == first
    (kept,) = (tmp_path / "benchmark" / "threshold").iterdir()
    (kept / "two.json").unlink()  # as if it had been stopped before the patient's last file
    assert run(prepared, tmp_path, tmp_path / "out", DIM) == [(3, 3)]


def crossed(runs: Path, base: str = "sam", width: int = 32) -> None:
    """A run of two folds whose adapters differ a little from the base: one layer, rank 2."""
    repo = None if base == "litemedsam" else weight_files.hub_repo(base)
    layer = "base_model.model.mask_decoder.transformer.layers.0.self_attn.q_proj"
    for number, test in enumerate((["one"], ["two"])):
        fold = runs / "crops" / f"fold-{number}"
        (fold / "adapter").mkdir(parents=True, exist_ok=True)
        (fold / "curves.png").touch()
        (fold / "split.json").write_text(json.dumps({"test": test}))
        down, up = torch.full((2, width), 1e-3), torch.ones(width, 2)
        save_file(
            {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up},
            fold / "adapter" / "adapter_model.safetensors",
        )
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "bias": "none"}
        config |= {"base_model_name_or_path": repo}
        (fold / "adapter" / "adapter_config.json").write_text(json.dumps(config))


def test_a_changed_adapter_is_scored_anew(
    prepared: Prepared, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crossed(tmp_path)
    assert run(prepared, tmp_path, tmp_path / "out", TUNED) == [(1, 2), (2, 2)]
    assert "rsLoRA, best recipe 2." in (tmp_path / "out" / "benchmark.md").read_text()  # of 3
    with (tmp_path / "out" / "benchmark.csv").open() as file:
        one = next(csv.DictReader(file))
    assert int(one["trainable"]) == 2 * 32 * 2
    assert run(prepared, tmp_path, tmp_path / "out", TUNED) == []
    path = tmp_path / "crops" / "fold-1" / "adapter" / "training.json"
    path.write_text(json.dumps({"inference": {"crop_sides": 2.0}}))
    monkeypatch.setattr(catalogue, "_LOADED", {})  # as in another process
    assert run(prepared, tmp_path, tmp_path / "out", TUNED) == [(2, 2)]


def test_an_adapters_two_matrices_train_beside_the_networks_own_parameters(tmp_path: Path) -> None:
    crossed(tmp_path, "litemedsam", 256)
    adapter = str(tmp_path / "crops" / "fold-0" / "adapter")
    predictor = load_predictor(adapter, backend="torch")  # OpenVINO would compile it for seconds
    found = bench.facts(predictor, adapter, is_trained=True)
    assert (found.trainable, found.parameters) == (2 * 256 * 2, 9_791_300 + 2 * 256 * 2)


def test_a_patient_in_two_folds_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    crossed(tmp_path)
    (tmp_path / "crops" / "fold-0" / "split.json").write_text(json.dumps({"test": ["two"]}))
    document.benchmark(prepared, tmp_path, tmp_path / "out", wanted=[TUNED])
    assert "'crops' has two in two" in (tmp_path / "out" / "benchmark.md").read_text()
    assert not (tmp_path / "out" / "figure.png").exists()


def test_rows_are_chosen_by_name_and_taken_from_other_runs() -> None:
    assert bench.methods("all") == list(bench.METHODS)
    (one,) = bench.methods("unet", ["unet=unet-2"])
    assert (one.name, one.run) == ("unet", "unet-2")
    for names, runs in (("nothing", []), ("unet", ["unet"]), ("sam", ["sam=folder"])):
        with pytest.raises(InputError):
            bench.methods(names, runs)


def test_every_system_of_the_paper_has_a_row() -> None:
    named = {"threshold", "fcm", "random-forest", "unet", "resattunet", "drunet", "sam", "medsam"}
    named |= {"litemedsam", "litemedsam-rslora"}
    assert named <= {method.name for method in bench.METHODS}
    published = {method.name: method.published for method in bench.METHODS if method.published}
    assert published["litemedsam"].test == (0.8103, 0.7127)
    assert published["litemedsam-rslora-paper"].test == (0.9249, 0.8725)


# Which slices are drawn


def item(mask: npt.NDArray[np.bool_], components: int = 1, index: int = 0) -> NativeSlice:
    box = Box(10, 10, 50, 50)
    hu = np.full(mask.shape, 36, np.float32)
    return NativeSlice("p", "p", index, (), hu, mask, box, (box,) * components, None, None)


def disc(radius: float) -> npt.NDArray[np.bool_]:
    y, x = np.mgrid[:64, :64] - 31.5
    return y**2 + x**2 <= radius**2


def test_circularity_is_one_for_a_disc_and_small_for_a_thread() -> None:
    assert figure.circularity(disc(20)) == pytest.approx(1, abs=0.05)
    square = np.zeros((64, 64), bool)
    square[10:50, 10:50] = True
    # Crofton's perimeter of a square is that of its digital outline's mean width: near pi/4 of a disc's
    assert figure.circularity(square) == pytest.approx(np.pi / 4, abs=0.12)
    thread = np.zeros((64, 64), bool)
    thread[30:32, 4:60] = True
    assert figure.circularity(thread) < 0.2
    assert figure.circularity(disc(20) & ~disc(8)) == figure.circularity(disc(20))
    assert figure.circularity(np.zeros((8, 8), bool)) == 0


def test_a_hole_is_more_than_a_few_pixels() -> None:
    ring = disc(20) & ~disc(8)
    assert figure.has_hole(ring)
    dot = disc(20)
    dot[31, 31] = False
    assert not figure.has_hole(dot)
    assert not figure.has_hole(disc(20))


def test_the_rules_choose_what_they_say_and_nothing_twice() -> None:
    scored = [(item(disc(18), index=i), 0.5 + i / 100) for i in range(21)]
    small = [(item(disc(5), index=30 + i), 0.3 + i / 10) for i in range(3)]
    ring = (item(disc(20) & ~disc(8), index=40), 0.45)
    many = [(item(disc(18), components=n, index=50 + n), 0.46) for n in (2, 3)]
    thread = np.zeros((64, 64), bool)
    thread[30:32, 4:60] = True
    irregular = (item(thread, index=60), 0.35)
    found = figure.choose([*scored, *small, ring, *many, irregular])
    cases = {case.rule: case.item.slice_index for case in found}
    assert list(cases)[:4] == ["best", "median", "worst", "small"]
    assert cases["best"] == 20  # of 0.70
    assert cases["worst"] == 30  # of 0.30
    # the worst was taken; of the two little ones that are left the lower is the median
    assert cases["small"] == 31
    assert cases["irregular"] == 60
    assert cases["with holes"] == 40
    assert cases["several components"] == 53  # three components go before two
    assert len(set(cases.values())) == len(cases)


def test_what_learns_without_a_network_has_no_count_and_no_box_is_said(tmp_path: Path) -> None:
    forest = bench.facts(Nothing(), str(tmp_path), is_trained=True)
    assert (forest.parameters, forest.takes_box) == (None, False)
    assert bench.facts(Nothing(), "threshold", is_trained=False).parameters == 0


@pytest.mark.parametrize("with_images", [False, True])
def test_no_pixel_of_the_ct_is_drawn_unless_asked_for(
    prepared: Prepared, tmp_path: Path, with_images: bool
) -> None:
    """The same slices with other grey values give the same figure, but for --with-images."""
    slices = list(native_slices(prepared))
    other = [replace(one, slice_hu=one.slice_hu + 20) for one in slices]
    column = figure.Column("m", {("one", 1): slices[0].mask}, {("one", 1): 1.0})
    pictures = []
    for number, items in enumerate((slices, other)):
        cases = [figure.Case("best", one) for one in items]
        path = tmp_path / f"{number}.png"
        figure.draw(path, cases, [column], chosen_by="m", with_images=with_images)
        pictures.append(path.read_bytes())
    assert (pictures[0] == pictures[1]) is not with_images


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (asdict(ForestConfig()), "50 trees"),
        (asdict(NetworkConfig("unet")), "12 passes, 8 examples a step"),
        (RECIPES["paper"].to_json(), "r 64, bce, 24 passes, 64 examples a step"),
        ({}, ""),
    ],
)
def test_a_row_tells_how_its_model_was_trained(
    config: dict[str, object], told: str, tmp_path: Path
) -> None:
    (tmp_path / "training.json").write_text(json.dumps({"config": config}))
    assert bench._recipe(tmp_path) == told
