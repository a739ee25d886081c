"""The fine-tune learns, resumes exactly, and saves what it trained."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch._subclasses.fake_tensor import FakeTensorMode

from ichseg.errors import InputError
from ichseg.methods import catalogue
from ichseg.methods.catalogue import load_base, load_litemedsam, load_predictor
from ichseg.methods.sam import Sam
from ichseg.sample import sample_paths
from tests.make_golden import BOX, image
from tests.tiny_sam import tiny_config, write_tiny
from train.dataset import ExampleConfig, Prepared, TrainingSlices, prepare
from train.finetune import (
    RECIPES,
    FinetuneConfig,
    Trainee,
    adapt,
    attach,
    finetune,
    predictor_of,
    segmentation_loss,
)
from train.memory import memory, of_model, without_storage

#: Small enough for two cores: rank 4, two slices an optimizer step, three steps an epoch.
SMALL = FinetuneConfig(
    rank=4,
    alpha=8,
    loss="bce+dice",
    batch=2,
    accumulate=1,
    microbatch=2,
    epochs=3,
    learning_rate=2e-3,
)


def write_scan(root: Path, name: str, hu_xyz: np.ndarray, mask_xyz: np.ndarray) -> None:
    affine = np.diag([-1.0, -1.0, 5.0, 1.0])
    for folder, values in (
        ("images", hu_xyz.astype(np.int16)),
        ("masks", mask_xyz.astype(np.uint8)),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(values, affine), root / folder / f"{name}.nii.gz")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The bundled sample's two bloodiest slices as one patient, two phantoms as two more."""
    root = tmp_path_factory.mktemp("data")
    ct, truth = (np.asarray(nib.load(path).dataobj) for path in sample_paths())
    first = int(np.argmax((truth > 0).sum(axis=(0, 1)))) - 1
    write_scan(root, "sample", ct[..., first : first + 2], truth[..., first : first + 2] > 0)
    rng = np.random.default_rng(0)
    x, y, _ = np.mgrid[:128, :128, :3]
    for name, centre, radius in (("phantom-a", (50, 60), 18), ("phantom-b", (80, 70), 12)):
        blood = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
        head = (x - 64) ** 2 + (y - 64) ** 2 < 58**2
        hu = np.where(head, 36 + rng.normal(0, 3, x.shape), -1000) + 26 * blood
        write_scan(root, name, hu, blood)
    return prepare("folder", root, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def split() -> dict[str, Any]:
    part = {"train": ["phantom-a", "sample"], "validation": ["phantom-b"], "test": []}
    return {"method": "by hand", "seed": 0, "folds": [part]}


@pytest.fixture(scope="module")
def run(
    prepared: Prepared, split: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    finetune(SMALL, prepared, split, 0, out, device="cpu")
    return out


def test_the_paper_recipe_is_the_papers() -> None:
    paper = RECIPES["paper"]
    assert (paper.rank, paper.alpha, paper.dropout, paper.rslora) == (64, 128, 0.1, True)
    assert paper.scaling == 128 / math.sqrt(64)
    assert (paper.loss, paper.learning_rate, paper.weight_decay) == ("bce", 5e-4, 0.01)
    assert (paper.batch, paper.accumulate, paper.epochs, paper.betas) == (8, 8, 24, (0.9, 0.999))
    assert paper.examples == ExampleConfig()
    assert (paper.examples.box_per, paper.examples.box_margin_px) == ("slice", 3)
    assert paper.examples.min_piece_px == 100


@pytest.fixture(scope="module")
def fresh() -> Any:
    return adapt(RECIPES["paper"])


def test_a_fresh_adapter_trains_8_percent_and_changes_nothing(fresh: Any) -> None:
    trainable = sum(p.numel() for p in fresh.parameters() if p.requires_grad)
    assert trainable == 851_968
    layers = {name: m for name, m in fresh.named_modules() if hasattr(m, "scaling")}
    assert len(layers) == 24
    assert {m.scaling["default"] for m in layers.values()} == {128 / math.sqrt(64)}
    picture = torch.from_numpy(image())[None, None].expand(1, 3, -1, -1)
    plain = load_litemedsam()[0].fold_batch_norm()
    with torch.inference_mode():
        box = torch.tensor([BOX])
        assert torch.equal(fresh.eval()(picture, box)[0], plain(picture, box)[0])


def test_gradients_reach_the_adapter_alone(fresh: Any) -> None:
    network = fresh.get_base_model()
    logits = Trainee(network)(torch.rand(1, 128, 128, 128), torch.tensor([BOX]))
    segmentation_loss(logits, torch.ones(1, 256, 256), "bce").sum().backward()
    touched = {name for name, p in fresh.named_parameters() if p.grad is not None}
    assert touched and all("lora_" in name for name in touched)
    assert {name.split(".lora_")[0] for name in touched} == {
        name.split(".lora_")[0] for name, p in fresh.named_parameters() if p.requires_grad
    }


def test_the_losses_have_their_closed_forms() -> None:
    zeros = torch.zeros(2, 4, 4)
    targets = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)])
    torch.testing.assert_close(
        segmentation_loss(zeros, targets, "bce"), torch.full((2,), math.log(2))
    )
    # chance 1/2 everywhere: soft Dice is (0 + 1) / (8 + 0 + 1) and (16 + 1) / (8 + 16 + 1)
    expected = torch.tensor([math.log(2) + 1 - 1 / 9, math.log(2) + 1 - 17 / 25])
    torch.testing.assert_close(segmentation_loss(zeros, targets, "bce+dice"), expected)
    sure = torch.where(targets > 0, 50.0, -50.0)
    torch.testing.assert_close(
        segmentation_loss(sure, targets, "bce+dice"), torch.zeros(2), atol=1e-6, rtol=0
    )


def test_the_loss_falls_and_the_run_folder_is_whole(run: Path) -> None:
    steps = (run / "steps.csv").read_text().splitlines()
    losses = [float(line.split(",")[3]) for line in steps[1:]]
    assert len(losses) == 9  # 5 slices in pairs, 3 epochs
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    rates = [float(line.split(",")[2]) for line in steps[1:]]
    assert rates[0] == SMALL.learning_rate
    assert rates[3] == pytest.approx(SMALL.learning_rate * (1 + math.cos(math.pi / 3)) / 2)
    epochs = (run / "epochs.csv").read_text().splitlines()
    assert "validation_dice" in epochs[0] and len(epochs) == 4
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((run / "environment.json").read_text())["torch"] == torch.__version__
    assert FinetuneConfig.from_json(json.loads((run / "config.json").read_text())) == SMALL
    left = {path.name for path in run.rglob("*.part")} | {p.name for p in run.glob(".*")}
    assert not left


def test_a_resumed_run_has_the_weights_of_one_never_stopped(
    run: Path,
    prepared: Prepared,
    split: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("train.finetune.SAVE_EVERY_S", 0.0)
    out = tmp_path / "stopped"
    for stop in (2, 4, None):  # within an epoch, within another, to the end
        finetune(SMALL, prepared, split, 0, out, resume=True, device="cpu", stop_after_steps=stop)
    whole = load_file(run / "adapter" / "adapter_model.safetensors")
    pieced = load_file(out / "adapter" / "adapter_model.safetensors")
    assert whole.keys() == pieced.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, pieced[name]), name
    columns = [line.split(",")[:4] for line in (out / "steps.csv").read_text().splitlines()]
    assert columns == [line.split(",")[:4] for line in (run / "steps.csv").read_text().splitlines()]


def test_a_saved_adapter_predicts_to_the_bit_what_it_did(tmp_path: Path) -> None:
    """As it stood in training against peft's own loader on a new network."""
    from peft import PeftModel

    trained = adapt(SMALL).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.01)
    trained.save_pretrained(tmp_path)
    base, _ = load_litemedsam()
    loaded = PeftModel.from_pretrained(base.fold_batch_norm(), str(tmp_path)).eval()
    picture = torch.from_numpy(image())[None, None].expand(1, 3, -1, -1)
    plain = load_litemedsam()[0].fold_batch_norm()
    with torch.inference_mode():
        box = torch.tensor([BOX])
        before = trained(picture, box)[0]
        assert torch.equal(loaded(picture, box)[0], before)
        assert not torch.equal(plain(picture, box)[0], before)


def test_a_runs_adapter_opens_in_the_application(run: Path) -> None:
    predictor = load_predictor(str(run / "adapter"))
    embedding = predictor.embed(image() * 70 + 30)
    assert predictor.predict(embedding, [BOX]).union.any()


def test_a_run_is_not_overwritten_or_mixed(
    run: Path, prepared: Prepared, split: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="folder of its own"):
        finetune(SMALL, prepared, split, 0, run, device="cpu")
    other = dataclasses.replace(SMALL, rank=8)
    with pytest.raises(InputError, match="configuration it began with"):
        finetune(other, prepared, split, 0, run, resume=True, device="cpu")
    moved = {
        **split,
        "folds": [{"train": ["sample"], "validation": [], "test": ["phantom-a", "phantom-b"]}],
    }
    with pytest.raises(InputError, match="data and the split"):
        finetune(SMALL, prepared, moved, 0, run, resume=True, device="cpu")


def test_settings_change_one_field_each() -> None:
    config = FinetuneConfig().with_settings(
        ["rank=8", "loss=bce+dice", "examples.crop_sides=[2, 4]", "examples.box_per=piece"]
    )
    assert (config.rank, config.loss) == (8, "bce+dice")
    assert (config.examples.crop_sides, config.examples.box_per) == ((2, 4), "piece")
    for wrong in ("rnk=8", "rank", "examples.nothing=1"):
        with pytest.raises(InputError, match="field=value"):
            FinetuneConfig().with_settings([wrong])


def test_every_recipe_makes_examples(prepared: Prepared) -> None:
    for name, recipe in RECIPES.items():
        config = dataclasses.replace(recipe.examples, implant_share=0, negative_share=0)
        example = TrainingSlices(prepared, ["sample"], config).example(0)
        assert example.target.any(), name


# --- Other bases ------------------------------------------------------------------------------------------------

BASES = ("medsam", "sam")


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A weights folder with a tiny random network in the place of each ViT-B."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "manifest.json").write_text((catalogue.WEIGHTS_DIR / "manifest.json").read_text())
    for base in BASES:
        write_tiny(folder / base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "WEIGHTS_DIR", folder)
        patch.setattr(catalogue, "_LOADED", {})
        yield folder


def small(base: str) -> FinetuneConfig:
    return dataclasses.replace(
        SMALL, **{"base": base, "epochs": 6, "learning_rate": 5e-2, "select": "last"}
    )


@pytest.fixture(scope="module", params=BASES)
def other_run(
    request: pytest.FixtureRequest,
    tiny_weights: Path,
    prepared: Prepared,
    split: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("runs") / request.param
    finetune(small(request.param), prepared, split, 0, out, device="cpu")
    return out


def test_a_run_of_before_there_were_bases_is_litemedsams() -> None:
    saved = SMALL.to_json()
    assert saved.pop("base") == "litemedsam"
    assert FinetuneConfig.from_json(saved) == SMALL


def test_another_base_learns(other_run: Path) -> None:
    steps = (other_run / "steps.csv").read_text().splitlines()[1:]
    losses = [float(line.split(",")[3]) for line in steps]
    assert len(losses) == 18
    # All that is frozen is random here, so there is less to gain than on a trained network.
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    assert "nan" not in (other_run / "epochs.csv").read_text()


def test_another_base_resumes_to_the_same_weights(
    other_run: Path,
    prepared: Prepared,
    split: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("train.finetune.SAVE_EVERY_S", 0.0)
    config = small(other_run.name)
    for stop in (4, None):
        finetune(
            config, prepared, split, 0, tmp_path, resume=True, device="cpu", stop_after_steps=stop
        )
    whole = load_file(other_run / "adapter" / "adapter_model.safetensors")
    pieced = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert whole.keys() == pieced.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, pieced[name]), name


def test_an_adapter_says_its_base_and_opens_on_it(other_run: Path, tiny_weights: Path) -> None:
    """Merged by the application, it answers what peft's own loader on a new base answers."""
    from peft import PeftModel

    base = other_run.name
    manifest = json.loads((tiny_weights / "manifest.json").read_text())
    config = json.loads((other_run / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == manifest[base]["hub_repo"]
    training = json.loads((other_run / "adapter" / "training.json").read_text())
    file = f"{base}/model.safetensors"
    assert training["config"]["base"] == base
    assert training["base_sha256"] == {file: catalogue.sha256(tiny_weights / file)}

    predictor = load_predictor(str(other_run / "adapter"))
    adapter = {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    assert set(predictor.weights_sha256) == {file, *adapter}
    network, _ = load_base(base)
    by_peft = PeftModel.from_pretrained(network, str(other_run / "adapter")).eval()
    reference = predictor_of(by_peft.get_base_model(), small(base))  # type: ignore[arg-type]
    plain = predictor_of(load_base(base)[0], small(base))
    hu = image() * 70 + 30
    mine, theirs, untuned = (
        one.predict(one.embed(hu), [BOX]) for one in (predictor, reference, plain)
    )
    np.testing.assert_allclose(mine.iou, theirs.iou, atol=5e-3)
    assert (mine.masks != theirs.masks).mean() < 0.005
    assert (mine.masks != untuned.masks).any() or abs(mine.iou - untuned.iou) > 1e-3


def test_an_adapter_of_an_unknown_base_is_refused(other_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(other_run / "adapter", folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "someone/else"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"wanglab/medsam-vit-base.*one of someone/else"):
        load_predictor(str(folder))


@pytest.mark.parametrize("base", BASES)
def test_the_adapter_goes_to_the_same_layers_of_another_base(tiny_weights: Path, base: str) -> None:
    model = adapt(small(base))
    layers = {
        name.split(".lora_")[0].removeprefix("base_model.model.")
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    ends = [name.rsplit(".", 1)[1] for name in layers]
    # Two layers of the tiny encoder; in the decoder seven attentions, as LiteMedSAM's.
    assert (ends.count("qkv"), ends.count("q_proj"), ends.count("v_proj")) == (2, 7, 7)


def test_examples_in_another_frame_are_the_same_draws(
    prepared: Prepared, tiny_weights: Path
) -> None:
    config = dataclasses.replace(RECIPES["crops"].examples, implant_share=0, negative_share=0)
    network, _ = load_base("sam")
    usual = TrainingSlices(prepared, ["sample", "phantom-a"], config, seed=3)
    other = TrainingSlices(
        prepared,
        ["sample", "phantom-a"],
        config,
        seed=3,
        frame_of=network.frame,
        target_size=network.logits_size,
    )
    for index in range(len(usual)):
        a, b = usual.example(index, 1), other.example(index, 1)
        assert (b.image.shape, b.target.shape) == ((64, 64), (32, 32))
        # A far edge is one pixel of its own frame in.
        far = np.array([0, 0, 1, 1])
        edges = (a.box_xyxy + far) / 256, (b.box_xyxy + far) / 64
        np.testing.assert_allclose(*edges, atol=1e-5)
        assert abs(a.target.mean() - b.target.mean()) < 0.02


def test_memory_is_what_autograd_keeps(tiny_weights: Path) -> None:
    """Counted without storage, it is the count of a real forward pass."""
    config = dataclasses.replace(small("sam"), dropout=0.0)
    real = of_model(attach(load_base("sam")[0], config), config)
    with torch.device("meta"):
        shapes = attach(Sam(tiny_config()), config)
    with FakeTensorMode():
        empty = of_model(without_storage(shapes), config)
    # Without storage torch gives a layer norm's statistics 16 bits where really they have 32.
    assert empty.activations == pytest.approx(real.activations, rel=0.01)
    assert empty == dataclasses.replace(real, activations=empty.activations)
    assert real.optimizer == 3 * 4 * real.trainable
    assert real.weights == 4 * real.parameters
    double = dataclasses.replace(config, microbatch=2 * config.microbatch)
    twice = of_model(attach(load_base("sam")[0], double), double)
    assert 1.8 < twice.activations / real.activations < 2
    with pytest.raises(InputError, match="A base is one of"):
        memory(dataclasses.replace(config, base="nothing"))  # type: ignore[arg-type]
