"""LiteMedSAM in our own code is the published model, and takes adapters where the paper puts them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ichseg.methods.adapter import merge_adapter
from ichseg.methods.bases import load_litemedsam
from ichseg.methods.network import LORA_TARGETS, LiteMedSAM
from tests import make_golden


@pytest.fixture(scope="module")
def network() -> LiteMedSAM:
    return load_litemedsam()[0]


@pytest.fixture(scope="module")
def answered(network: LiteMedSAM) -> make_golden.Answer:
    """What it says of the synthetic slice, which takes seconds, once for all tests."""
    return make_golden.answer(network)


def test_a_real_slice_gives_the_reference_output(network: LiteMedSAM, shared_data: Path) -> None:
    golden = np.load(shared_data / "litemedsam_golden.npz")
    with torch.inference_mode():
        image = torch.from_numpy(golden["image"])[None, None].expand(1, 3, -1, -1)
        embedding = network.image_encoder(image)
        logits, iou = network.decode(embedding, torch.from_numpy(golden["box_xyxy"])[None])
    np.testing.assert_allclose(embedding, golden["embedding"], atol=1e-4)
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-4)
    np.testing.assert_allclose(iou, golden["iou"], atol=1e-4)


def test_a_synthetic_slice_gives_the_committed_output(answered: make_golden.Answer) -> None:
    golden, got = np.load(make_golden.PATH), make_golden.sampled(answered)
    for name in ("embedding", "logits", "iou"):
        np.testing.assert_allclose(got[name], golden[name], atol=1e-4, err_msg=name)


def test_the_checkpoint_has_the_published_size(network: LiteMedSAM) -> None:
    assert sum(p.numel() for p in network.parameters()) == 9_791_300


def test_folding_batch_norms_changes_nothing_but_rounding(answered: make_golden.Answer) -> None:
    folded = load_litemedsam()[0].fold_batch_norm()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    box = torch.tensor([make_golden.BOX])
    with torch.inference_mode():
        logits = folded(make_golden.batch(), box)[0]
    torch.testing.assert_close(logits, answered.logits, atol=1e-3, rtol=0)


def test_stem_and_body_are_the_encoder(network: LiteMedSAM, answered: make_golden.Answer) -> None:
    with torch.inference_mode():
        stem = network.image_encoder.stem(make_golden.batch())
        assert stem.shape == (1, 128, 128, 128)
        torch.testing.assert_close(network.image_encoder.body(stem), answered.embedding)


def test_many_boxes_on_one_embedding_are_as_many_single_boxes(network: LiteMedSAM) -> None:
    embedding = torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(1)) * 0.1
    boxes = torch.tensor([[10.0, 20, 60, 80], [100, 100, 200, 180], [0, 0, 255, 255]])
    with torch.inference_mode():
        together, iou = network.decode(embedding, boxes)
        for i in range(3):
            alone, iou_alone = network.decode(embedding, boxes[i : i + 1])
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(iou[i : i + 1], iou_alone, atol=1e-5, rtol=1e-4)


def test_clicks_and_a_mask_are_encoded_apart(network: LiteMedSAM) -> None:
    encoder = network.prompt_encoder
    points = torch.tensor([[[40.0, 50.0], [40.0, 50.0], [0.0, 0.0]]])
    inside, outside, nothing = encoder.points(points, torch.tensor([[1, 0, -1]]))[0]
    difference = encoder.point_embeddings[1].weight[0] - encoder.point_embeddings[0].weight[0]
    torch.testing.assert_close(inside - outside, difference, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(nothing, encoder.not_a_point_embed.weight[0])
    assert encoder.dense(torch.zeros(2, 1, 256, 256)).shape == (2, 256, 64, 64)


def _with_adapter(network: LiteMedSAM, rank: int, rslora: bool) -> torch.nn.Module:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=list(LORA_TARGETS),
        use_rslora=rslora,
        bias="none",
    )
    return get_peft_model(network, config)


def test_the_paper_adapts_24_layers_and_8_percent_of_the_parameters() -> None:
    adapted = _with_adapter(load_litemedsam()[0], 64, rslora=True)
    layers = [name for name, _ in adapted.named_modules() if name.endswith("lora_A.default")]
    trainable = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    total = sum(p.numel() for p in adapted.parameters())
    assert len(layers) == 24
    assert (trainable, total) == (851_968, 10_643_268)
    assert f"{100 * trainable / total:.4f}" == "8.0048"


@pytest.mark.parametrize("rslora", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_merging_an_adapter_is_what_peft_computes(
    tmp_path: Path, answered: make_golden.Answer, rslora: bool
) -> None:
    adapted = _with_adapter(load_litemedsam()[0], 4, rslora)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.01)
    adapted.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["use_rslora"] is rslora

    merged, _ = load_litemedsam()
    merge_adapter(merged, tmp_path)
    image, box = make_golden.batch(), torch.tensor([make_golden.BOX])
    with torch.inference_mode():
        expected = adapted.eval()(image, box)[0]
        torch.testing.assert_close(merged(image, box)[0], expected, atol=2e-3, rtol=0)
    assert (answered.logits - expected).abs().max() > 0.1
