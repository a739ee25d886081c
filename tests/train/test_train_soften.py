"""A softened adapter lies on the straight line between the un-tuned weights and the tuned ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ichseg.errors import InputError
from ichseg.methods.adapter import merge_adapter
from ichseg.methods.bases import load_litemedsam
from train.adapter import adapt
from train.recipes import FinetuneConfig
from train.soften import soften


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with an adapter that changes something."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    model = adapt(FinetuneConfig(rank=4, alpha=8))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    model.save_pretrained(str(folder / "adapter"))
    (folder / "adapter" / "training.json").write_text('{"inference": {"second_look": true}}')
    (folder / "curves.png").write_bytes(b"drawn")
    (folder / "split.json").write_text("{}")
    return folder


def weights(adapter: Path) -> dict[str, torch.Tensor]:
    network, _ = load_litemedsam()
    merge_adapter(network, adapter)
    return dict(network.named_parameters())


def test_the_weights_are_the_stated_part_of_the_way(run: Path, tmp_path: Path) -> None:
    before = dict(load_litemedsam()[0].named_parameters())
    after = weights(run / "adapter")
    half = weights(soften(run, tmp_path / "half", 0.25)[0])
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(moved) == 24
    for name in before:
        expected = before[name] + 0.25 * (after[name] - before[name])
        torch.testing.assert_close(half[name], expected, rtol=0, atol=1e-6)


def test_strength_nothing_is_the_untuned_network_and_strength_one_the_tuned(
    run: Path, tmp_path: Path
) -> None:
    none, whole = (weights(soften(run, tmp_path / str(s), s)[0]) for s in (0.0, 1.0))
    before, after = dict(load_litemedsam()[0].named_parameters()), weights(run / "adapter")
    assert all(torch.equal(none[name], before[name]) for name in before)
    assert all(torch.equal(whole[name], after[name]) for name in before)


def test_every_fold_is_softened_and_says_how_far(run: Path, tmp_path: Path) -> None:
    for fold in range(2):
        (tmp_path / "cv").mkdir(exist_ok=True)
        (tmp_path / "cv" / f"fold-{fold}").symlink_to(run, target_is_directory=True)
    folders = soften(tmp_path / "cv", tmp_path / "soft", 0.5)
    assert [folder.parent.name for folder in folders] == ["fold-0", "fold-1"]
    for folder in folders:
        training = json.loads((folder / "training.json").read_text())
        assert training == {"inference": {"second_look": True}, "strength": 0.5}
        assert (folder.parent / "split.json").is_file()
        assert (folder.parent / "curves.png").read_bytes() == b"drawn"
    again = soften(tmp_path / "soft" / "fold-0", tmp_path / "quarter", 0.5)[0]
    assert json.loads((again / "training.json").read_text())["strength"] == 0.25


@pytest.mark.parametrize("strength", [-0.1, 1.5])
def test_a_strength_off_the_line_is_refused(run: Path, tmp_path: Path, strength: float) -> None:
    with pytest.raises(InputError, match=f"got {strength:g}"):
        soften(run, tmp_path / "out", strength)


def test_an_unfinished_run_and_the_same_folder_are_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "young" / "adapter").mkdir(parents=True)
    with pytest.raises(InputError, match="'young' is not"):
        soften(tmp_path / "young", tmp_path / "out", 0.5)
    with pytest.raises(InputError, match="folder of its own"):
        soften(run, run, 0.5)
