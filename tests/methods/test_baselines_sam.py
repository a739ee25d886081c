"""SAM and MedSAM through transformers: slices, boxes and masks go in and out as in their authors' own code.

No weights of either are here: the loading is tried on a tiny random network, the decoder on LiteMedSAM's weights.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ichseg.errors import WeightsError
from ichseg.marks.box import Box
from ichseg.methods import catalogue
from ichseg.methods import weights as weight_files
from ichseg.methods.bases import load_litemedsam
from ichseg.methods.catalogue import available, fetch, load_predictor
from ichseg.methods.frame import PAPER
from ichseg.methods.network import LiteMedSAM
from ichseg.methods.predictor import NetworkPredictor
from ichseg.methods.sam import IMAGE_MEAN, IMAGE_SD, MedSam, Sam, load_sam, to_transformers
from ichseg.methods.torch_backend import TorchBackend
from tests.tiny_sam import enlarged, tiny_config, write_tiny

SIZE = 64
SHAPES = [(80, 80), (61, 90), (90, 52)]


def slice_hu(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A smooth pattern from air to bone, so that interpolation at its size is no matter of chance."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    phase = np.random.default_rng(seed).uniform(0, 3)
    return (65 + 60 * np.sin(x / 7 + phase) * np.cos(y / 9)).astype(np.float32)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder with the project's manifest and nothing else; nothing loaded, no hub, an empty cache of it."""
    folder = tmp_path / "weights"
    folder.mkdir()
    manifest = (weight_files.WEIGHTS_DIR / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest)
    monkeypatch.setattr(weight_files, "WEIGHTS_DIR", folder)
    monkeypatch.setattr(catalogue, "_LOADED", {})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture(params=["sam", "medsam"])
def tiny(request: pytest.FixtureRequest, weights: Path) -> NetworkPredictor:
    write_tiny(weights / request.param)
    predictor = load_predictor(request.param)
    assert isinstance(predictor, NetworkPredictor)
    return predictor


def sam_processor() -> object:
    from transformers import SamProcessor
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    return SamProcessor(
        SamImageProcessorPil(size={"longest_edge": SIZE}, pad_size={"height": SIZE, "width": SIZE})
    )


# --- In and out -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sam() -> Sam:
    return enlarged(Sam(tiny_config())).eval()


@pytest.fixture(scope="module")
def medsam() -> MedSam:
    return MedSam(tiny_config())


@pytest.mark.parametrize("shape", [(40, 40), (31, 50), (50, 27)])
def test_sam_sees_what_its_processor_makes(sam: Sam, shape: tuple[int, int]) -> None:
    hu = slice_hu(shape)
    frame = sam.frame(shape)
    image = torch.from_numpy(frame.image(hu, sam.window(hu)))[None]
    mine = sam.pixels(image, [frame.content_yx])
    grey = np.round(PAPER.apply(hu) * 255).astype(np.uint8)
    theirs = sam_processor()(np.stack([grey] * 3, axis=-1), return_tensors="pt")  # type: ignore[operator]
    assert frame.content_yx == tuple(theirs["reshaped_input_sizes"][0].tolist())
    # 8 bits, rounded after each of two passes: at most two steps of 1/255 in units of the least spread
    assert (mine - theirs["pixel_values"]).abs().max() <= 2.01 / 255 / min(IMAGE_SD)
    rows, columns = frame.content_yx
    assert not mine[..., rows:, :].any() and not mine[..., columns:].any()


def test_sam_shrinks_a_slice_to_within_its_texture(sam: Sam) -> None:
    """Where the frame is coarser, a pixel here is the mean over its area, in PIL a triangle over twice that."""
    hu = slice_hu((160, 130))
    frame = sam.frame((160, 130))
    mine = sam.pixels(torch.from_numpy(frame.image(hu))[None], [frame.content_yx])
    grey = np.round(PAPER.apply(hu) * 255).astype(np.uint8)
    theirs = sam_processor()(np.stack([grey] * 3, axis=-1), return_tensors="pt")  # type: ignore[operator]
    assert (mine - theirs["pixel_values"]).abs().mean() < 0.05


@pytest.mark.parametrize("shape", SHAPES)
def test_a_box_is_the_processors_but_for_the_pixel_that_half_open_means(
    sam: Sam, shape: tuple[int, int]
) -> None:
    box = Box(11, 7, 40, 33)
    theirs = sam_processor()(  # type: ignore[operator]
        np.zeros((*shape, 3), np.uint8), input_boxes=[[list(box.xyxy)]], return_tensors="pt"
    )["input_boxes"][0, 0].numpy()
    mine = sam.frame(shape).box(box)
    # The processor rounds the frame's shorter side to whole pixels before it scales by it: half a pixel at most.
    np.testing.assert_allclose(mine, theirs - [0, 0, 1, 1], atol=0.5 * 40 / min(shape) + 1e-5)


def test_medsams_box_is_scaled_along_each_side(medsam: MedSam) -> None:
    shape, box = (61, 90), Box(11, 7, 40, 33)
    edges = np.array(box.xyxy) / np.array([90, 61, 90, 61]) * SIZE
    np.testing.assert_allclose(medsam.frame(shape).box(box), edges - [0, 0, 1, 1], rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_sams_logits_come_back_as_its_processor_brings_them(
    sam: Sam, shape: tuple[int, int]
) -> None:
    frame = sam.frame(shape)
    logits = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    (theirs,) = sam_processor().post_process_masks(  # type: ignore[attr-defined]
        logits[None], [shape], [frame.content_yx], binarize=False
    )
    mine = frame.logits(logits[0, 0].numpy())
    np.testing.assert_allclose(mine, theirs[0, 0].numpy(), atol=1e-5)
    clear = np.abs(mine) > 1e-4
    assert (sam.mask(frame, logits[0, 0].numpy()) == (theirs[0, 0].numpy() > 0))[clear].all()


@pytest.mark.parametrize("shape", SHAPES)
def test_medsams_mask_is_that_of_its_authors(medsam: MedSam, shape: tuple[int, int]) -> None:
    """Straight from the decoder's square to the slice, as chances, cut at a half."""
    logits = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 3
    chance = torch.nn.functional.interpolate(logits.sigmoid(), shape, mode="bilinear")[0, 0].numpy()
    mask = medsam.mask(medsam.frame(shape), logits[0, 0].numpy())
    assert mask.shape == shape
    assert (mask == (chance > 0.5))[np.abs(chance - 0.5) > 1e-5].all()


@pytest.mark.parametrize("shape", [(40, 40), (31, 50)])
def test_medsam_sees_the_slice_from_its_least_to_its_most(
    medsam: MedSam, shape: tuple[int, int]
) -> None:
    hu = np.clip(slice_hu(shape), 44, 87)
    frame = medsam.frame(shape)
    pixels = medsam.pixels(torch.from_numpy(frame.image(hu, medsam.window(hu)))[None], [shape])
    grey = torch.from_numpy(PAPER.apply(hu))[None, None]
    resized = torch.nn.functional.interpolate(grey, (SIZE, SIZE), mode="bilinear")[0, 0]
    scaled = (resized - grey.min()) / (grey.max() - grey.min())
    assert pixels.shape == (1, 3, SIZE, SIZE)
    for channel in pixels[0]:
        torch.testing.assert_close(channel, scaled, atol=1e-5, rtol=0)


def test_on_a_head_with_air_and_bone_medsams_range_is_the_window(medsam: MedSam) -> None:
    assert medsam.window(np.array([[-1000.0, 60.0], [35.0, 900.0]])) == PAPER
    assert medsam.window(np.full((4, 4), -1000)) == PAPER
    low, high = 35.0, 72.0
    narrow = medsam.window(np.array([[low, high]]))
    assert (narrow.low, narrow.high) == (low, high)


def test_sams_mean_and_spread_are_those_of_transformers() -> None:
    processor = sam_processor().image_processor  # type: ignore[attr-defined]
    assert tuple(processor.image_mean) == IMAGE_MEAN and tuple(processor.image_std) == IMAGE_SD


# --- The network ------------------------------------------------------------------------------------------------


def test_stem_body_and_decode_are_transformers_own_forward(sam: Sam) -> None:
    pixels = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[3.0, 4.0, 30.0, 40.0], [5.0, 5.0, 60.0, 50.0]])
    with torch.inference_mode():
        whole = sam(pixel_values=pixels, input_boxes=boxes[:, None], multimask_output=False)
        embedding = sam.body(sam.stem(pixels))
        logits, iou = sam.decode(embedding, boxes)
        assert torch.equal(logits, whole.pred_masks[:, 0]) and torch.equal(
            iou, whole.iou_scores[:, 0]
        )
        both = sam.decode(embedding[:1], boxes)[0]
    torch.testing.assert_close(both[:1], logits[:1])
    assert not torch.equal(both[1], logits[1])  # another image, another answer


def original_names(depth: int) -> set[str]:
    """The state dict of segment_anything's Sam, as its modules name it."""

    def both(*names: str) -> set[str]:
        return {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}

    encoder = {"pos_embed", "neck.0.weight", "neck.2.weight"}
    encoder |= both("patch_embed.proj", "neck.1", "neck.3")
    for i in range(depth):
        parts = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.lin1", "mlp.lin2")
        encoder |= both(*(f"blocks.{i}.{part}" for part in parts))
        encoder |= {f"blocks.{i}.attn.rel_pos_{axis}" for axis in "hw"}
    # LiteMedSAM has kept the names of what comes after the encoder.
    prompt_and_decoder = {
        name for name in LiteMedSAM().state_dict() if not name.startswith("image_encoder.")
    }
    return {f"image_encoder.{name}" for name in encoder} | prompt_and_decoder


def test_every_tensor_of_the_original_checkpoint_has_its_place() -> None:
    from transformers import SamConfig

    with torch.device("meta"):
        places = {name: value.shape for name, value in Sam(SamConfig()).state_dict().items()}
    names = original_names(depth=12)
    assert len(names) == 314  # as medsam_vit_b.pth
    mapped = to_transformers({name: torch.tensor(i) for i, name in enumerate(sorted(names))})
    assert mapped.keys() == places.keys()
    # One to one, but for the position encoding, which transformers keeps twice.
    assert len({int(value) for value in mapped.values()}) == len(names)
    assert to_transformers(mapped) == mapped
    shapes = {name: value.shape for name, value in LiteMedSAM().state_dict().items()}
    for name in names & shapes.keys():
        if not name.startswith("image_encoder."):
            (place,) = to_transformers({"image_encoder.": Tensor(), name: Tensor()}).keys() & (
                places.keys() - {"shared_image_embedding.positional_embedding"}
            )
            assert places[place] == shapes[name], (name, place)


@pytest.mark.slow
def test_litemedsams_own_decoder_answers_the_same_in_transformers() -> None:
    """The real weights, renamed, through the other implementation: order, places and conventions all fit."""
    ours, _ = load_litemedsam()
    decoder = {k: v for k, v in ours.state_dict().items() if not k.startswith("image_encoder.")}
    sam = Sam(tiny_config(image=256, patch=4, decoder={}, encoder={"output_channels": 256}))
    loaded = sam.load_state_dict(
        {**sam.state_dict(), **to_transformers({"image_encoder.": Tensor(), **decoder})},
        strict=False,
    )
    assert loaded.unexpected_keys == ["vision_encoder."] and not loaded.missing_keys
    hu = np.full((256, 256), 35.0)
    hu[100:150, 90:160] = 68
    image = torch.from_numpy(PAPER.apply(hu))[None]
    boxes = torch.tensor([[85.0, 95.0, 165.0, 155.0], [40.0, 40.0, 200.0, 120.0]])
    with torch.inference_mode():
        embedding = ours.body(ours.stem(ours.pixels(image, [(256, 256)])))
        logits, iou = ours.decode(embedding, boxes)
        theirs, their_iou = sam.eval().decode(embedding, boxes)
    # transformers adds 1e-6 in its layer norms, the original and LiteMedSAM 1e-5
    assert (theirs - logits).abs().max() < 2e-3 * logits.abs().max()
    torch.testing.assert_close(their_iou, iou, atol=1e-3, rtol=0)
    assert (logits > 0).any()


# --- Loading ----------------------------------------------------------------------------------------------------


def test_a_predictor_answers_at_native_size(tiny: NetworkPredictor) -> None:
    hu = slice_hu((61, 90))
    embedding = tiny.embed(hu)
    result = tiny.predict(embedding, [Box(11, 7, 40, 33), Box(20.5, 20, 88, 60)])
    assert result.masks.shape == (2, 61, 90) and result.iou.shape == (2,)
    assert 0 < result.masks.mean() < 1
    alone = tiny.predict(embedding, [Box(20.5, 20, 88, 60)])
    assert (alone.masks[0] == result.masks[1]).mean() > 0.999
    looked = tiny.predict(embedding, [Box(11, 7, 40, 33)], second_look=True).masks
    assert looked.shape == (1, 61, 90)
    assert embedding.nbytes == 2 * 32 * 8 * 8


def test_several_slices_at_once_are_those_one_by_one(tiny: NetworkPredictor) -> None:
    slices = [slice_hu((61, 90), seed) for seed in range(3)]
    for one, hu in zip(tiny.embed_many(slices), slices, strict=True):
        np.testing.assert_array_equal(one.features, tiny.embed(hu).features)


def test_users_at_once_get_each_their_own_answer(tiny: NetworkPredictor) -> None:
    slices = [slice_hu((50, 50), seed) for seed in range(4)]

    def one(hu: np.ndarray) -> np.ndarray:
        return tiny.predict(tiny.embed(hu), [Box(10, 10, 40, 35)]).union

    alone = [one(hu) for hu in slices]
    with ThreadPoolExecutor(4) as pool:
        for a, b in zip(alone, pool.map(one, slices), strict=True):
            assert (a == b).all()


def test_half_precision_agrees_with_full_precision(weights: Path) -> None:
    write_tiny(weights / "medsam")
    masks = []
    for precision in ("float32", "bfloat16"):
        network, hashes = load_sam("medsam")
        backend = TorchBackend(network, device="cpu", precision=precision)
        predictor = NetworkPredictor(backend, "x", "x", hashes)
        embedding = predictor.embed(slice_hu((80, 80)))
        masks.append(predictor.predict(embedding, [Box(11, 7, 60, 63)]).union)
    full, half = masks
    assert 2 * (full & half).sum() / (full.sum() + half.sum()) >= 0.99


def test_what_was_loaded_is_known_by_its_hash(tiny: NetworkPredictor, weights: Path) -> None:
    name = tiny.name
    file = f"{name}/model.safetensors"
    assert tiny.weights_sha256 == {file: weight_files.sha256(weights / file)}
    network, _ = load_sam(name)
    positions = network.prompt_encoder.shared_embedding, network.shared_image_embedding
    assert positions[0].positional_embedding is positions[1].positional_embedding
    assert available(name) == (True, "")
    fetch(name)  # is there: nothing to do, and no hub is asked


def test_the_original_layout_loads_as_the_same_network(weights: Path) -> None:
    write_tiny(weights / "sam")
    network, _ = load_sam("sam")
    here = load_file(weights / "sam" / "model.safetensors")
    names = original_names(depth=2)
    back = {(to_transformers({"image_encoder.": Tensor(), name: Tensor()}).keys()
             & network.state_dict().keys() - {"shared_image_embedding.positional_embedding"}).pop(): name
            for name in names}  # fmt: skip
    here["prompt_encoder.shared_embedding.positional_embedding"] = here.pop(
        "shared_image_embedding.positional_embedding"
    )
    save_file(
        {back[name]: value for name, value in here.items()}, weights / "sam" / "model.safetensors"
    )
    again, _ = load_sam("sam")
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize("name", ["sam", "medsam"])
def test_absent_weights_are_named_with_size_and_place(weights: Path, name: str) -> None:
    repo = json.loads((weights / "manifest.json").read_text())[name]["hub_repo"]
    ready, why = available(name)
    assert not ready and repo in why and "about 375 MB" in why and "model.safetensors" in why
    for use in (load_predictor, fetch):
        with pytest.raises(WeightsError) as error:
            use(name)
        for told in (repo, "about 375 MB", f"weights/{name}/model.safetensors", "never read"):
            assert told in str(error.value)


def test_a_pickle_is_not_read_in_the_place_of_safetensors(weights: Path) -> None:
    write_tiny(weights / "medsam")
    file = weights / "medsam" / "model.safetensors"
    torch.save(load_file(file), weights / "medsam" / "pytorch_model.bin")
    file.unlink()
    with pytest.raises(WeightsError, match="a pickle is never read"):
        load_predictor("medsam")


def test_the_hubs_cache_is_looked_in(weights: Path, tmp_path: Path) -> None:
    """In the cache's own layout, under the revision that the manifest names first."""
    entry = json.loads((weights / "manifest.json").read_text())["medsam"]
    folder = tmp_path / "hub" / f"models--{entry['hub_repo'].replace('/', '--')}"
    write_tiny(folder / "snapshots" / entry["hub_revisions"][0])
    assert available("medsam") == (True, "")
    assert load_predictor("medsam").predict(
        load_predictor("medsam").embed(slice_hu((40, 40))), [Box(5, 5, 30, 30)]
    ).masks.shape == (1, 40, 40)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_a_file_of_another_network_is_refused(weights: Path, change: str) -> None:
    write_tiny(weights / "sam")
    file = weights / "sam" / "model.safetensors"
    state = load_file(file)
    name = "mask_decoder.iou_token.weight"
    if change == "missing":
        del state[name]
    elif change == "extra":
        state["mask_decoder.more"] = torch.zeros(1)
    else:
        state[name] = torch.zeros(2, 3)
    save_file(state, file)
    with pytest.raises(WeightsError, match=r"sam/model\.safetensors does not.*fetch the file"):
        load_predictor("sam")
