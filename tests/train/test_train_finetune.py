"""The fine-tune learns, resumes exactly, and saves what it trained: on networks small enough for a second a run.

LiteMedSAM itself takes one step here, and is held to its 24 adapted layers without training.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ichseg.errors import InputError
from ichseg.methods import weights as weight_files
from ichseg.methods.bases import load_base, load_litemedsam
from ichseg.methods.catalogue import load_predictor
from ichseg.methods.sam import Sam
from ichseg.sample import sample_paths
from tests.make_golden import BOX, image
from tests.train.conftest import BASES
from tests.train.scans import write_scan
from train.adapter import Trainee, adapt, finetune, mixed_precision, predictor_of
from train.data.cache import Prepared, prepare
from train.data.example_config import ExampleConfig
from train.data.examples import TrainingSlices
from train.loop import autocast
from train.loss import segmentation_loss
from train.recipes import RECIPES, FinetuneConfig

#: Small enough for one core: rank 4, two slices an optimizer step.
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


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The bundled sample's two bloodiest slices as one patient, two phantoms as two more."""
    root = tmp_path_factory.mktemp("data")
    ct, reference = (np.asarray(nib.load(path).dataobj) for path in sample_paths())
    first = int(np.argmax((reference > 0).sum(axis=(0, 1)))) - 1
    write_scan(root, "sample", ct[..., first : first + 2], reference[..., first : first + 2] > 0)
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


def test_the_paper_recipe_is_the_papers() -> None:
    paper = RECIPES["paper"]
    assert (paper.rank, paper.alpha, paper.dropout, paper.rslora) == (64, 128, 0.1, True)
    assert paper.scaling == 128 / math.sqrt(64)
    assert (paper.loss, paper.learning_rate, paper.weight_decay) == ("bce", 5e-4, 0.01)
    assert (paper.batch, paper.accumulate, paper.epochs, paper.betas) == (8, 8, 24, (0.9, 0.999))
    assert paper.examples == ExampleConfig()
    assert (paper.examples.box_per, paper.examples.box_margin_px) == ("slice", 3)
    assert paper.examples.min_component_px == 100


@pytest.fixture(scope="module")
def fresh() -> Any:
    return adapt(RECIPES["paper"])


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    """A slice, [1, 3, 256, 256]."""
    return torch.from_numpy(image())[None, None].expand(1, 3, -1, -1)


@pytest.fixture(scope="module")
def plain_answer(picture: torch.Tensor) -> torch.Tensor:
    """What the network answers without an adapter."""
    plain = load_litemedsam()[0].fold_batch_norm()
    with torch.inference_mode():
        return plain(picture, torch.tensor([BOX]))[0]


def test_a_fresh_adapter_trains_8_percent_and_changes_nothing(
    fresh: Any, picture: torch.Tensor, plain_answer: torch.Tensor
) -> None:
    trainable = sum(p.numel() for p in fresh.parameters() if p.requires_grad)
    assert trainable == 851_968
    layers = {name: m for name, m in fresh.named_modules() if hasattr(m, "scaling")}
    assert len(layers) == 24
    assert {m.scaling["default"] for m in layers.values()} == {128 / math.sqrt(64)}
    with torch.inference_mode():
        assert torch.equal(fresh.eval()(picture, torch.tensor([BOX]))[0], plain_answer)


def test_gradients_reach_the_adapter_alone(fresh: Any) -> None:
    network = fresh.get_base_model()
    with autocast(torch.device("cpu")):  # as in training
        logits = Trainee(network)(torch.rand(1, 128, 128, 128), torch.tensor([BOX]))
    segmentation_loss(logits.float(), torch.ones(1, 256, 256), "bce").sum().backward()
    touched = {name for name, p in fresh.named_parameters() if p.grad is not None}
    assert touched and all("lora_" in name for name in touched)
    assert {name.split(".lora_")[0] for name in touched} == {
        name.split(".lora_")[0] for name, p in fresh.named_parameters() if p.requires_grad
    }


@pytest.mark.parametrize("computes", [True, False])
def test_a_cpu_that_would_emulate_bfloat16_trains_in_float32(
    monkeypatch: pytest.MonkeyPatch, computes: bool
) -> None:
    for module in ("train.adapter", "train.loop"):
        monkeypatch.setattr(f"{module}.computes_in_bfloat16", lambda _: computes)
    cpu = torch.device("cpu")
    assert mixed_precision(cpu) == ("bf16" if computes else "no")
    with autocast(cpu):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if computes else torch.float32)


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


@pytest.mark.slow
def test_a_saved_adapter_predicts_to_the_bit_what_it_did(
    tmp_path: Path, picture: torch.Tensor, plain_answer: torch.Tensor
) -> None:
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
    with torch.inference_mode():
        box = torch.tensor([BOX])
        before = trained(picture, box)[0]
        assert torch.equal(loaded(picture, box)[0], before)
        assert not torch.equal(plain_answer, before)


def test_settings_change_one_field_each() -> None:
    config = FinetuneConfig().with_settings(
        ["rank=8", "loss=bce+dice", "examples.crop_sides=[2, 4]", "examples.box_per=component"]
    )
    assert (config.rank, config.loss) == (8, "bce+dice")
    assert (config.examples.crop_sides, config.examples.box_per) == ((2, 4), "component")
    for wrong in ("rnk=8", "rank", "examples.nothing=1"):
        with pytest.raises(InputError, match="field=value"):
            FinetuneConfig().with_settings([wrong])


def test_the_words_of_before_are_understood() -> None:
    config = FinetuneConfig().with_settings(
        ["second_look=true", "examples.box_per=piece", "examples.min_piece_px=50"]
    )
    assert (config.refinement, config.examples.box_per) == (True, "component")
    assert config.examples.min_component_px == 50
    saved = config.to_json()
    saved["second_look"] = saved.pop("refinement")
    saved["examples"] |= {"box_per": "piece", "min_piece_px": 50.0}
    del saved["examples"]["min_component_px"]
    assert FinetuneConfig.from_json(json.loads(json.dumps(saved))) == config


@pytest.mark.parametrize("name", ["litemedsam-rslora", "folds/litemedsam-rslora/fold-0/adapter"])
def test_the_shipped_recipe_is_read_from_its_weights(root: Path, name: str) -> None:
    training = json.loads((root / "weights" / name / "training.json").read_text())
    assert FinetuneConfig.from_json(training["config"]) == RECIPES["crops"]


def test_every_recipe_makes_examples(prepared: Prepared) -> None:
    for name, recipe in RECIPES.items():
        config = dataclasses.replace(recipe.examples, implant_share=0, negative_share=0)
        example = TrainingSlices(prepared, ["sample"], config).example(0)
        assert example.target.any(), name


# --- Other bases ------------------------------------------------------------------------------------------------


def small(base: str) -> FinetuneConfig:
    return dataclasses.replace(
        SMALL, **{"base": base, "epochs": 6, "learning_rate": 5e-2, "select": "last"}
    )


@pytest.fixture(scope="module")
def run(
    tiny_weights: Path,
    prepared: Prepared,
    split: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("runs") / "sam"
    finetune(small("sam"), prepared, split, 0, out, device="cpu")
    return out


@pytest.fixture(scope="module", params=BASES)
def other_run(
    request: pytest.FixtureRequest,
    run: Path,
    prepared: Prepared,
    split: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    if request.param == run.name:
        return run
    out = tmp_path_factory.mktemp("runs") / request.param
    config = dataclasses.replace(small(request.param), epochs=2)
    finetune(config, prepared, split, 0, out, device="cpu")
    return out


def test_a_run_of_before_there_were_bases_is_litemedsams() -> None:
    saved = SMALL.to_json()
    assert saved.pop("base") == "litemedsam"
    assert FinetuneConfig.from_json(saved) == SMALL


def test_the_loss_falls_and_the_run_folder_is_whole(run: Path) -> None:
    steps = (run / "steps.csv").read_text().splitlines()
    losses = [float(line.split(",")[3]) for line in steps[1:]]
    assert len(losses) == 18  # 5 slices in pairs, 6 epochs
    # All that is frozen is random here, so there is less to gain than on a trained network.
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    config = small(run.name)
    rates = [float(line.split(",")[2]) for line in steps[1:]]
    assert rates[0] == config.learning_rate
    assert rates[3] == pytest.approx(config.learning_rate * (1 + math.cos(math.pi / 6)) / 2)
    epochs = (run / "epochs.csv").read_text()
    assert "validation_dice" in epochs and len(epochs.splitlines()) == 7 and "nan" not in epochs
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((run / "environment.json").read_text())["torch"] == torch.__version__
    saved = json.loads((run / "config.json").read_text())
    assert FinetuneConfig.from_json(saved) == config
    left = {path.name for path in run.rglob("*.part")} | {p.name for p in run.glob(".*")}
    assert not left


def same_weights(one: Path, other: Path) -> bool:
    """Whether two runs have the same adapter to the bit, and took the same steps."""
    whole, resumed = (
        load_file(run / "adapter" / "adapter_model.safetensors") for run in (one, other)
    )
    columns = [
        [line.split(",")[:4] for line in (run / "steps.csv").read_text().splitlines()]
        for run in (one, other)
    ]
    return (
        whole.keys() == resumed.keys()
        and all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
        and columns[0] == columns[1]
    )


def test_a_resumed_run_has_the_weights_of_one_never_stopped(
    run: Path,
    prepared: Prepared,
    split: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("train.loop.SAVE_EVERY_S", 0.0)
    config = small(run.name)
    for stop in (2, 4, None):  # within an epoch, within another, to the end
        finetune(
            config, prepared, split, 0, tmp_path, resume=True, device="cpu", stop_after_steps=stop
        )
    assert same_weights(run, tmp_path)


@pytest.mark.slow
def test_a_stem_that_is_kept_changes_nothing(
    run: Path,
    prepared: Prepared,
    split: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it is for LiteMedSAM, whose stem is costly: kept by image."""
    monkeypatch.setattr(Sam, "stem_is_costly", True)
    finetune(small(run.name), prepared, split, 0, tmp_path, device="cpu")
    assert same_weights(run, tmp_path)


def test_a_checkpoint_of_before_the_one_loop_resumes(
    run: Path,
    prepared: Prepared,
    split: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It also held the configuration, the patients and the data, which are read from the folder's files."""
    monkeypatch.setattr("train.loop.SAVE_EVERY_S", 0.0)
    config = small(run.name)
    finetune(config, prepared, split, 0, tmp_path, device="cpu", stop_after_steps=4)
    path = tmp_path / "last.safetensors"
    with safe_open(path, framework="pt") as file:
        position = json.loads(file.metadata()["position"])
    position |= {"config": config.to_json(), "part": split["folds"][0]}
    position |= {"data_sha256": prepared.sha256}
    save_file(load_file(path), path, metadata={"position": json.dumps(position)})
    finetune(config, prepared, split, 0, tmp_path, resume=True, device="cpu")
    assert same_weights(run, tmp_path)


def test_a_run_is_not_overwritten_or_mixed(
    run: Path, prepared: Prepared, split: dict[str, Any]
) -> None:
    config = small(run.name)
    with pytest.raises(InputError, match="folder of its own"):
        finetune(config, prepared, split, 0, run, device="cpu")
    other = dataclasses.replace(config, rank=8)
    with pytest.raises(InputError, match="configuration it began with"):
        finetune(other, prepared, split, 0, run, resume=True, device="cpu")
    moved = {
        **split,
        "folds": [{"train": ["sample"], "validation": [], "test": ["phantom-a", "phantom-b"]}],
    }
    with pytest.raises(InputError, match="data and the split"):
        finetune(config, prepared, moved, 0, run, resume=True, device="cpu")


@pytest.mark.slow
def test_the_shipped_base_takes_a_step_and_its_adapter_opens(
    prepared: Prepared, tmp_path: Path
) -> None:
    part = {"train": ["sample"], "validation": [], "test": ["phantom-a", "phantom-b"]}
    split = {"method": "by hand", "seed": 0, "folds": [part]}
    config = dataclasses.replace(SMALL, epochs=1)
    adapter = finetune(config, prepared, split, 0, tmp_path / "run", device="cpu")
    assert "nan" in (tmp_path / "run" / "epochs.csv").read_text()  # nobody validates
    tensors = load_file(adapter / "adapter_model.safetensors")
    assert all(value.any() for name, value in tensors.items() if "lora_B" in name)
    predictor = load_predictor(str(adapter))
    assert predictor.predict(predictor.embed(image() * 70 + 30), [BOX]).union.any()


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
    assert training["base_sha256"] == {file: weight_files.sha256(tiny_weights / file)}

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


def test_an_adapter_of_an_unknown_base_is_refused(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(run / "adapter", folder)
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
