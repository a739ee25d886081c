"""The methods of the comparison, on slices whose blood is known, and the interface that all of them keep."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import skfuzzy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy import stats
from sklearn.ensemble import RandomForestClassifier

from ichseg.errors import WeightsError
from ichseg.marks.box import Box
from ichseg.methods.catalogue import CATALOGUE, available, load_predictor
from ichseg.methods.fcm import fuzzy_c_means
from ichseg.methods.frame import PAPER, SliceFrame
from ichseg.methods.predictor import Predictor
from ichseg.methods.random_forest import (
    FEATURES,
    Forest,
    RandomForestPredictor,
    frame_hu,
    inside_head,
    local_moments,
    pixel_features,
)
from ichseg.methods.unets import (
    ARCHITECTURES,
    PRIOR_LOGIT,
    AttentionGate,
    DoubleConv,
    LearnedUp,
    ReducedUnit,
    ResidualBlock,
    UNet,
    UNetPredictor,
    build,
)
from train.forest import forest_of

SHAPE = (320, 400)


def ellipse(
    centre_yx: tuple[float, float],
    radii_yx: tuple[float, float],
    shape_yx: tuple[int, int] = SHAPE,
) -> np.ndarray:
    y, x = np.mgrid[: shape_yx[0], : shape_yx[1]]
    (cy, cx), (ry, rx) = centre_yx, radii_yx
    return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1


HEAD = ((160.0, 200.0), (150.0, 120.0))
BLOOD = ((150.0, 240.0), (40.0, 32.0))
BOX = Box(200, 104, 280, 197)


def head(seed: int = 0, blood: bool = True) -> np.ndarray:
    """Air, a skull of 900 HU about ten pixels thick, brain of 35 +- 3 HU, and an ellipse of blood of 66 +- 3 HU."""
    noise = np.random.default_rng(seed).normal(0, 3, SHAPE)
    hu = np.full(SHAPE, -1000.0)
    hu[ellipse(*HEAD)] = 900
    hu[ellipse(HEAD[0], (140, 110))] = 35
    if blood:
        hu[ellipse(*BLOOD)] = 66
    return hu + noise


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


# --- Every method keeps one interface -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forest() -> Forest:
    """Grown on one head, to be asked about others."""
    hu = frame_hu(SliceFrame(SHAPE), head(seed=99))
    candidates, features = pixel_features(hu, inside_head(hu))
    blood = SliceFrame(SHAPE).mask(ellipse(*BLOOD))[candidates]
    return forest_of(RandomForestClassifier(8, max_depth=4, random_state=0).fit(features, blood))


def lively(network: UNet) -> UNet:
    """The network with its fresh weights, normalised as if trained, and tuned to find half of the box's pixels."""
    image = torch.from_numpy(SliceFrame(SHAPE).image(head()))[None, None]
    x0, y0, x1, y1 = SliceFrame(SHAPE).box(BOX).astype(int)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # the statistics become those of this one image
    with torch.no_grad():
        network.train()(image)
        network.head.bias -= network.eval()(image)[..., y0:y1, x0:x1].median()
    return network


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, forest: Forest) -> dict[str, Path]:
    """Each trained method in a folder of its own, small, and but for the forest with fresh weights."""
    made = {}
    for name in (*ARCHITECTURES, "random-forest"):
        folder = made[name] = tmp_path_factory.mktemp("models") / name
        folder.mkdir()
        config: dict[str, object] = {"architecture": name}
        if name == "random-forest":
            config |= {"features": list(FEATURES), "cutoff": 0.5}
            forest.save(folder / "model.safetensors")
        else:
            torch.manual_seed(0)
            config["channels"] = [4, 8, 16]
            network = lively(build(name, (4, 8, 16)))
            save_file(network.state_dict(), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config))
    return made


IN_CATALOGUE = [name for name in CATALOGUE if available(name)[0]]
IN_FOLDERS = [f"folder of {name}" for name in (*ARCHITECTURES, "random-forest")]


def _slow_if_adapter(name: str) -> object:
    """The adapter is a network of the un-tuned one's class that answers each box twice: the slow tests ask it."""
    return pytest.param(name, marks=pytest.mark.slow) if name == "litemedsam-rslora" else name


@pytest.fixture(params=[_slow_if_adapter(name) for name in (*IN_CATALOGUE, *IN_FOLDERS)])
def predictor(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Predictor:
    name = request.param.removeprefix("folder of ")
    return load_predictor(name if request.param in IN_CATALOGUE else str(folders[name]))


def test_every_method_keeps_the_interface(predictor: Predictor) -> None:
    hu = head()
    embedding = predictor.embed(hu)
    boxes = [BOX, Box(150, 60, 250.5, 180.25), Box(-5, -5, 60, 40)]
    result = predictor.predict(embedding, boxes)
    assert result.masks.shape == (3, *SHAPE) and result.masks.dtype == bool
    assert result.iou.shape == (3,) and result.iou.dtype == np.float32
    for mask, box in zip(result.masks, boxes, strict=True):
        alone = predictor.predict(embedding, [box]).masks[0]
        assert np.count_nonzero(mask ^ alone) <= 0.01 * np.count_nonzero(mask | alone)
    empty = predictor.predict(embedding, [])
    assert empty.masks.shape == (0, *SHAPE) and empty.iou.shape == (0,)
    assert not empty.union.any()
    assert isinstance(predictor.name, str) and isinstance(predictor.title, str)
    assert all(len(digest) == 64 for digest in predictor.weights_sha256.values())


def test_the_answer_does_not_hang_on_the_type_of_number(predictor: Predictor) -> None:
    whole = head().round()
    masks = [
        predictor.predict(predictor.embed(whole.astype(kind)), [BOX]).union
        for kind in (np.int16, np.float64)
    ]
    assert (masks[0] == masks[1]).all()


@pytest.mark.parametrize("shape", [(101, 67), (64, 300), (7, 9)])
def test_slices_of_any_shape_are_taken(predictor: Predictor, shape: tuple[int, int]) -> None:
    hu = np.full(shape, 35, np.int16)
    hu[2:5, 3:6] = 66
    result = predictor.predict(predictor.embed(hu), [Box(1, 1, 7, 6)])
    assert result.masks.shape == (1, *shape)


def test_a_method_without_a_prompt_is_cut_to_the_box(predictor: Predictor) -> None:
    if predictor.takes_box:
        pytest.skip("it takes a box")
    embedding = predictor.embed(head())
    everywhere = predictor.predict(embedding, [Box(0, 0, SHAPE[1], SHAPE[0])]).union
    for box in (BOX, Box(10.4, 20.6, 300, 150)):
        inside = np.zeros(SHAPE, bool)
        inside[box.slices()] = True
        assert (predictor.predict(embedding, [box]).union == (everywhere & inside)).all()
    assert np.isnan(predictor.predict(embedding, [BOX]).iou).all()


def test_users_at_once_get_each_their_own_answer(predictor: Predictor) -> None:
    slices = [head(0), head(1, blood=False)]

    def one(hu: np.ndarray) -> np.ndarray:
        return predictor.predict(predictor.embed(hu), [BOX]).union

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(one, slices))
    for hu, mask in zip(slices, together, strict=True):
        assert (one(hu) == mask).all()


def test_the_catalogue_says_which_methods_take_no_box(predictor: Predictor) -> None:
    if predictor.name in CATALOGUE:
        assert CATALOGUE[predictor.name].takes_box == predictor.takes_box
    assert {name for name, info in CATALOGUE.items() if not info.takes_box} == {
        *ARCHITECTURES,
        "random-forest",
    }


# --- Fuzzy c-means ------------------------------------------------------------------------------------------------


def test_clusters_are_those_of_scikit_fuzzy() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [rng.normal(m, s, n) for m, s, n in ((8, 3, 90), (35, 4, 400), (64, 5, 150))]
    )
    centres, memberships = fuzzy_c_means(values, (10, 35, 65), tolerance=1e-9)
    theirs, their_memberships, *_ = skfuzzy.cmeans(
        values[None], 3, 2, error=1e-9, maxiter=1000, seed=1
    )
    order = np.argsort(theirs[:, 0])
    np.testing.assert_allclose(centres, theirs[order, 0], atol=1e-4)
    np.testing.assert_allclose(memberships, their_memberships[order], atol=1e-4)


def test_two_values_are_their_own_clusters() -> None:
    centres, memberships = fuzzy_c_means([0.0, 10.0], (1.0, 9.0))
    np.testing.assert_allclose(centres, [0, 10], atol=1e-3)
    np.testing.assert_allclose(memberships, np.eye(2), atol=1e-6)


def test_a_value_between_two_equal_clusters_is_shared() -> None:
    _, memberships = fuzzy_c_means([0, 0, 5, 10, 10], (0, 10))
    np.testing.assert_allclose(memberships[:, 2], 0.5, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 80), st.integers(1, 5)), min_size=2, max_size=20))
def test_a_weight_is_so_many_copies(pairs: list[tuple[int, int]]) -> None:
    values, counts = np.array(pairs, dtype=float).T
    weighted, shares = fuzzy_c_means(values, (10, 35, 65), weights=counts)
    repeated, _ = fuzzy_c_means(np.repeat(values, counts.astype(int)), (10, 35, 65))
    np.testing.assert_allclose(weighted, repeated, atol=1e-3)
    np.testing.assert_allclose(shares.sum(axis=0), 1)


def test_the_brightest_class_is_the_blood_and_never_the_bone() -> None:
    fcm = load_predictor("fcm")
    embedding = fcm.embed(head())
    assert dice(fcm.predict(embedding, [BOX]).union, ellipse(*BLOOD)) > 0.97
    beyond = Box(150, 100, 330, 200)  # over the skull, into the air
    found = fcm.predict(embedding, [beyond]).union
    assert dice(found, ellipse(*BLOOD)) > 0.97
    assert not (found & (head() > 200)).any()


def test_a_flat_box_has_no_brightest_class() -> None:
    fcm = load_predictor("fcm")
    for hu in (35, 66, -1000, 900):
        flat = fcm.embed(np.full((40, 40), hu, np.int16))
        assert not fcm.predict(flat, [Box(5, 5, 30, 30)]).union.any()


# --- The random forest --------------------------------------------------------------------------------------------


def test_the_forest_is_scikit_learns_to_rounding(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    # Coarse values, so that many lie right on a threshold.
    features = rng.integers(0, 6, (800, 4)).astype(np.float32) / 3
    labels = features[:, 0] + rng.normal(0, 0.5, 800) > features[:, 1]
    fitted = RandomForestClassifier(12, max_leaf_nodes=40, random_state=0).fit(features, labels)
    forest_of(fitted).save(tmp_path / "forest.safetensors")
    asked = np.concatenate([features, rng.random((500, 4), dtype=np.float32) * 2])
    chance = Forest.load(tmp_path / "forest.safetensors").predict(asked)
    np.testing.assert_allclose(chance, fitted.predict_proba(asked)[:, 1], atol=1e-6)


def test_a_forest_of_one_leaf_is_its_share_of_blood() -> None:
    labels = np.array([True, False, False, False])
    fitted = RandomForestClassifier(1, bootstrap=False, random_state=0).fit(np.ones((4, 2)), labels)
    np.testing.assert_allclose(forest_of(fitted).predict(np.zeros((3, 2), np.float32)), 0.25)
    assert forest_of(fitted).predict(np.zeros((0, 2), np.float32)).shape == (0,)


def test_moments_are_those_of_the_neighbours_inside() -> None:
    hu = np.random.default_rng(0).normal(40, 8, (20, 20)).astype(np.float32)
    weight = np.ones_like(hu)
    weight[:, 12:] = 0
    mean, spread, skewness, kurtosis = (image[9, 10] for image in local_moments(hu, weight))
    values = hu[7:12, 8:12].ravel().astype(np.float64)  # 5 x 5 about it, less the column outside
    np.testing.assert_allclose(
        [mean, spread, skewness, kurtosis],
        [values.mean(), values.std(), stats.skew(values), stats.kurtosis(values, fisher=False)],
        rtol=1e-4,
    )


def features_at(hu: np.ndarray, yx: tuple[int, int]) -> dict[str, float]:
    """What the forest is told of one pixel of a 256 x 256 slice."""
    candidates, features = pixel_features(hu.astype(np.float32), inside_head(hu.astype(np.float32)))
    assert candidates[yx]
    row = np.count_nonzero(candidates.ravel()[: np.ravel_multi_index(yx, candidates.shape)])
    return dict(zip(FEATURES, features[row].tolist(), strict=True))


def test_features_are_what_they_are_called() -> None:
    """A round skull of radius 100 about the middle, brain of 35 HU, one brighter disc on the image's right."""
    shape = (256, 256)
    hu = np.full(shape, -20.0)
    hu[ellipse((127.5, 127.5), (110, 110), shape)] = 100
    hu[ellipse((127.5, 127.5), (100, 100), shape)] = 35
    hu[ellipse((127.5, 177.5), (20, 20), shape)] = 65
    blood, other_side = features_at(hu, (127, 177)), features_at(hu, (127, 77))
    assert (blood["value"], blood["mean"], blood["spread"]) == (65, 65, 0)
    assert (blood["bright_share"], other_side["bright_share"]) == (1, 0)
    assert blood["distance_to_centre"] == pytest.approx(0.5, abs=0.02)
    assert blood["distance_to_skull"] == pytest.approx(0.5, abs=0.03)
    assert blood["flipped_difference"] == pytest.approx(30, abs=0.5)
    assert other_side["flipped_difference"] == pytest.approx(-30, abs=0.5)
    assert (blood["outside_share"], blood["skewness"]) == (0, 0)
    assert blood["z_score"] > 4 and other_side["z_score"] < 0
    assert 35 < blood["smooth_22"] < blood["smooth_11"] < blood["smooth_5"] < 65
    rim = features_at(hu, (127, 29))
    assert rim["outside_share"] > 0.15 and rim["distance_to_skull"] < 0.05


def test_bone_and_air_are_never_asked_about() -> None:
    hu = frame_hu(SliceFrame(SHAPE), head())
    candidates, _ = pixel_features(hu, inside_head(hu))
    assert not (candidates & ((hu >= 95) | (hu < 0))).any()
    assert candidates.any()
    opened = hu.copy()
    opened[:90] = -20  # no closed skull: what is left of the head still counts
    assert inside_head(opened).any()
    nothing = np.full((256, 256), -20, np.float32)
    assert not pixel_features(nothing, inside_head(nothing))[0].any()


def test_a_forest_finds_blood_in_another_head(folders: dict[str, Path]) -> None:
    predictor = load_predictor(str(folders["random-forest"]))
    assert dice(predictor.predict(predictor.embed(head(5)), [BOX]).union, ellipse(*BLOOD)) > 0.9
    assert not predictor.predict(predictor.embed(head(5, blood=False)), [BOX]).union.any()


def test_the_cutoff_decides(forest: Forest) -> None:
    def found(cutoff: float) -> int:
        predictor = RandomForestPredictor(forest, cutoff, "x", "x", {})
        return int(predictor.find(head()).sum())

    assert found(0.05) > found(0.5) > found(1.0) == 0


# --- The networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_fresh_network_says_that_blood_is_rare(name: str) -> None:
    network = build(name)
    assert 0.5e6 < sum(p.numel() for p in network.parameters()) < 2.1e6
    torch.nn.init.zeros_(network.head.weight)
    with torch.inference_mode():
        logits = network.eval()(torch.rand(2, 1, 64, 96))
    assert logits.shape == (2, 1, 64, 96)
    torch.testing.assert_close(logits, torch.full_like(logits, PRIOR_LOGIT))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_reach_every_weight(name: str) -> None:
    network = build(name, (4, 8, 16))
    network(torch.rand(2, 1, 32, 32)).square().sum().backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]


def test_the_networks_have_the_blocks_that_the_paper_names() -> None:
    def count(name: str, kind: type[torch.nn.Module]) -> int:
        return sum(isinstance(module, kind) for module in build(name).modules())

    assert (count("unet", DoubleConv), count("unet", LearnedUp)) == (9, 4)
    assert (count("resattunet", ResidualBlock), count("resattunet", AttentionGate)) == (5, 4)
    assert count("resattunet", torch.nn.Upsample) == 4
    assert count("drunet", ReducedUnit) == 18
    assert [count(name, AttentionGate) for name in ("unet", "drunet")] == [0, 0]


def test_attention_multiplies_what_is_skipped() -> None:
    gate = AttentionGate(6).eval()
    torch.nn.init.zeros_(gate.psi.weight)
    torch.nn.init.constant_(gate.psi.bias, np.log(3.0))  # sigmoid(ln 3) = 3 / 4
    skip, below = torch.randn(1, 6, 8, 8), torch.randn(1, 6, 8, 8)
    torch.testing.assert_close(gate(skip, below), 0.75 * skip)


def test_a_block_that_learnt_nothing_passes_its_input() -> None:
    for kind in (ResidualBlock, ReducedUnit):
        block = kind(8, 8).eval()
        torch.nn.init.zeros_(block.body[-1].weight)
        x = torch.rand(1, 8, 5, 5)
        torch.testing.assert_close(block(x), x)


def thresholding_network(hu: float) -> UNet:
    """A network of one level whose logit is the windowed image less a threshold."""
    network = UNet(DoubleConv, LearnedUp, DoubleConv, channels=(1,))
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.zeros_(layer.weight)
            with torch.no_grad():
                layer.weight[..., layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = 1
    torch.nn.init.constant_(network.head.bias, -float(PAPER.apply(hu)))
    return network


@pytest.mark.parametrize("shape", [SHAPE, (512, 512), (200, 131)])
def test_a_networks_answer_comes_back_at_native_size_in_its_place(shape: tuple[int, int]) -> None:
    rows, columns = shape
    blood = ellipse((rows * 0.4, columns * 0.6), (rows * 0.15, columns * 0.2), shape)
    predictor = UNetPredictor(thresholding_network(50), "x", "x", {}, device="cpu")
    mask = predictor.predict(
        predictor.embed(np.where(blood, 65, 35)), [Box(0, 0, columns, rows)]
    ).union
    assert dice(mask, blood) > 0.985


def test_half_precision_weights_are_opened(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    tensors = load_file(folders["unet"] / "model.safetensors")
    half = {name: value.half() if value.ndim > 1 else value for name, value in tensors.items()}
    (tmp_path / "config.json").write_text((folders["unet"] / "config.json").read_text())
    save_file(half, tmp_path / "model.safetensors")
    whole, halved = load_predictor(str(folders["unet"])), load_predictor(str(tmp_path))
    a, b = (p.predict(p.embed(head()), [BOX]).union for p in (whole, halved))
    assert dice(a, b) > 0.98


# --- What cannot be opened ----------------------------------------------------------------------------------------


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _unknown(folder: Path) -> None:
    (folder / "config.json").write_text('{"architecture": "v-net", "channels": [4, 8]}')


def _other_features(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"features": ["value", "age"]}))


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("unet", _no_weights, r"has no model\.safetensors; point at"),
        ("unet", _unknown, "one of unet, resattunet, drunet; got 'v-net'"),
        ("random-forest", _other_features, "value, age, not those of this version"),
    ],
)
def test_a_damaged_folder_is_refused_in_a_sentence(
    folders: dict[str, Path],
    tmp_path: Path,
    name: str,
    damage: Callable[[Path], None],
    words: str,
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for file in folders[name].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    damage(folder)
    with pytest.raises(WeightsError, match=words):
        load_predictor(str(folder))
