"""Back ends compute the same; what is compiled is kept where only its user can write, under all that it depends on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.cases import RealSlice, ct_ich_slices
from benchmarks.reference import Reference
from ichseg.errors import InputError
from ichseg.methods import backends, catalogue, compiled_cache, openvino_backend, prompted
from ichseg.methods.backends import StemMemory, pick_backend
from ichseg.methods.bases import load_litemedsam
from ichseg.methods.catalogue import available, load_predictor
from ichseg.methods.compiled_cache import CompiledCache
from ichseg.methods.network import LiteMedSAM
from ichseg.methods.network.inference import InferenceNetwork
from ichseg.methods.openvino_backend import cache_key
from ichseg.methods.predictor import NetworkPredictor
from ichseg.methods.torch_backend import TorchBackend, computes_in_bfloat16
from ichseg.page.embeddings import Embeddings

Masks = npt.NDArray[np.bool_]

needs_openvino = pytest.mark.skipif(
    not backends.has_openvino(), reason="openvino is not installed here"
)

#: Mean and worst Dice with float32's mask, over boxes of many sizes: on blood of a few pixels each one counts.
AIM_DICE, LEAST_DICE = 0.995, 0.97


@pytest.fixture(scope="module")
def network() -> LiteMedSAM:
    return load_litemedsam()[0]


@pytest.fixture(scope="module")
def inference(network: LiteMedSAM) -> InferenceNetwork:
    return InferenceNetwork(network)


# The layout for inference


@pytest.mark.slow
def test_the_layout_for_inference_computes_what_the_network_does(
    network: LiteMedSAM, inference: InferenceNetwork
) -> None:
    images = torch.rand(2, 256, 256, generator=torch.Generator().manual_seed(0))
    images[1, 100:] = 0  # as the padding of a slice that is not square
    boxes = torch.tensor([[30.0, 40, 90, 120], [0, 0, 255, 255]])
    with torch.inference_mode():
        embedding = network.image_encoder(images[:, None].expand(-1, 3, -1, -1))
        fast = inference.body(inference.stem(images))
        torch.testing.assert_close(fast, embedding.flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-4)
        for ours, theirs in zip(
            inference.decode(fast, boxes), network.decode(embedding, boxes), strict=True
        ):
            torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=1e-3)


def test_one_embedding_serves_all_boxes_in_the_layout_for_inference(
    inference: InferenceNetwork,
) -> None:
    embedding = torch.randn(1, 4096, 256, generator=torch.Generator().manual_seed(1)) * 0.1
    boxes = torch.tensor([[10.0, 20, 60, 80], [100, 100, 200, 180], [0, 0, 255, 255]])
    with torch.inference_mode():
        together, iou = inference.decode(embedding, boxes)
        for i in range(3):
            alone, iou_alone = inference.decode(embedding, boxes[i : i + 1])
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-3, rtol=1e-3)
            torch.testing.assert_close(iou[i : i + 1], iou_alone, atol=1e-4, rtol=1e-3)


def test_making_the_layout_leaves_the_network_as_it_was(network: LiteMedSAM) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    InferenceNetwork(network)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


# Agreement on real slices


@pytest.fixture(scope="module")
def real_slices(shared_data: Path) -> list[RealSlice]:
    """Slices of CT-ICH with their boxes, two at most. `make bench` looks at more."""
    slices = ct_ich_slices(shared_data, 4)
    if not slices:
        pytest.skip("CT-ICH is not in ../shared/data")
    return [one._replace(boxes=one.boxes[:2]) for one in slices]


@pytest.fixture(scope="module")
def plain_masks(real_slices: list[RealSlice]) -> Callable[[str, bool, int], list[Masks]]:
    """The first real slices' masks the plain way, which takes seconds per slice, once for all back ends."""

    @cache
    def masks(name: str, second_look: bool, count: int) -> list[Masks]:
        plain = Reference(name, keeps=True)
        return [
            plain.predict(plain.embed(one.slice_hu), one.boxes, second_look=second_look).masks
            for one in real_slices[:count]
        ]

    return masks


@pytest.mark.parametrize(
    ("name", "second_look", "count"),
    [
        ("litemedsam-rslora", False, 2),
        pytest.param("litemedsam-rslora", False, 4, marks=pytest.mark.slow),
        pytest.param("litemedsam-rslora", True, 4, marks=pytest.mark.slow),
        pytest.param("litemedsam", False, 4, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("torch", marks=pytest.mark.slow),
        pytest.param("openvino", marks=needs_openvino),
    ],
)
def test_masks_on_real_slices_agree_with_the_plain_way(
    backend: str,
    name: str,
    second_look: bool,
    count: int,
    real_slices: list[RealSlice],
    plain_masks: Callable[[str, bool, int], list[Masks]],
) -> None:
    if not available(name)[0]:
        pytest.skip("no adapter in weights/")
    here = load_predictor(name, "cpu", backend=backend)
    found: list[float] = []
    for one, b in zip(real_slices[:count], plain_masks(name, second_look, count), strict=True):
        a = here.predict(here.embed(one.slice_hu), one.boxes, second_look=second_look).masks
        both = a.sum(axis=(1, 2)) + b.sum(axis=(1, 2))
        found += list(2 * (a & b).sum(axis=(1, 2)) / np.maximum(both, 1))
    assert len(found) >= count
    assert np.mean(found) >= AIM_DICE and min(found) >= LEAST_DICE


# Which back end


def test_auto_is_openvino_where_it_is_installed_and_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(backends.BACKEND_VARIABLE, raising=False)
    for gpu, installed, expected in (
        (False, True, "openvino"),
        (False, False, "torch"),
        (True, True, "torch"),
    ):
        monkeypatch.setattr(backends, "_has_cuda", lambda gpu=gpu: gpu)
        monkeypatch.setattr(backends, "has_openvino", lambda installed=installed: installed)
        assert pick_backend(None) == expected
        assert pick_backend("torch") == "torch"
        assert pick_backend(None, "cpu") == ("openvino" if installed else "torch")
    monkeypatch.setenv(backends.BACKEND_VARIABLE, "torch")
    assert pick_backend(None) == "torch"


def test_what_cannot_be_had_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_LOADED", {})
    with pytest.raises(InputError, match="auto, torch or openvino; got 'tpu'; choose one"):
        load_predictor("litemedsam", backend="tpu")
    monkeypatch.setattr(backends, "has_openvino", lambda: True)
    with pytest.raises(InputError, match="runs on the CPU; got device 'cuda'"):
        load_predictor("litemedsam", device="cuda", backend="openvino")
    monkeypatch.setattr(backends, "has_openvino", lambda: False)
    with pytest.raises(InputError, match="needs the package openvino, which is not installed"):
        load_predictor("litemedsam", backend="openvino")


def test_openvino_refuses_what_it_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architecture": "unet"}')
    with pytest.raises(InputError, match="runs LiteMedSAM and its adapters; got model"):
        load_predictor(str(tmp_path), backend="openvino")


def test_where_openvino_fails_auto_goes_on_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(catalogue, "_LOADED", {})
    monkeypatch.setattr(prompted, "OpenVinoBackend", fail)
    monkeypatch.setattr(backends, "_has_cuda", lambda: False)
    monkeypatch.setattr(backends, "has_openvino", lambda: True)
    monkeypatch.delenv(backends.BACKEND_VARIABLE, raising=False)
    predictor = load_predictor("litemedsam")
    assert isinstance(predictor, NetworkPredictor) and predictor.backend.name == "torch"
    assert catalogue.backend_of("litemedsam").startswith("torch, CPU")
    with pytest.raises(RuntimeError, match="no such instruction"):
        load_predictor("litemedsam", backend="openvino")


def test_a_model_that_is_not_loaded_runs_on_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_LOADED", {})
    assert catalogue.backend_of("litemedsam") == ""
    load_predictor("threshold")
    assert catalogue.backend_of("threshold") == ""


@pytest.mark.slow
@needs_openvino
def test_with_a_warm_cache_neither_torch_nor_telemetry_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from ichseg.methods.catalogue import load_predictor\n"
        "p = load_predictor('litemedsam', 'cpu', 'openvino')\n"
        "p.predict(p.embed(np.zeros((40, 40))), [(5, 5, 30, 30)])\n"
        "print(p.backend.name, 'torch' in sys.modules, 'peft' in sys.modules,"
        " 'transformers' in sys.modules, sys.modules.get('openvino_telemetry'))"
    )
    environment = os.environ | {compiled_cache.CACHE_VARIABLE: str(tmp_path / "cache")}
    answers = []
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).resolve().parents[2],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        answers.append(run.stdout.strip())
    assert answers == ["openvino True False False None", "openvino False False False None"]
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


# What models with the same stem share


@pytest.mark.slow
def test_both_panes_models_compute_the_stem_once_a_slice_whatever_precision_follows() -> None:
    hu = np.random.default_rng(0).normal(40, 20, (64, 64))
    called = []
    models_ = []
    for name, precision in (("one", "float32"), ("other", "float32"), ("half", "bfloat16")):
        network = InferenceNetwork(load_litemedsam()[0])
        stem = network.stem
        network.stem = lambda pixels, name=name, stem=stem: called.append(name) or stem(pixels)  # type: ignore[method-assign]
        backend = TorchBackend(network, device="cpu", precision=precision, stem_key="a test's own")
        models_.append(NetworkPredictor(backend, name, name, {}))
    first, second, half = (model.embed(hu).features for model in models_)
    assert called == ["one"]
    assert (first == second).all()
    assert first is not None and half is not None
    assert 0.99 < np.corrcoef(first.ravel(), half.ravel())[0, 1] < 1
    models_[0].embed(hu + 1)
    assert called == ["one", "one"]
    backends.forget_images()
    models_[1].embed(hu + 1)
    assert called == ["one", "one", "other"]


def test_the_memory_of_stems_keeps_the_last_images_alone() -> None:
    memory = StemMemory(keep=2)
    images = [np.full((4, 4), value, np.float32) for value in range(3)]
    made = [memory.get(image, lambda i=i: f"made {i}") for i, image in enumerate(images)]
    assert made == ["made 0", "made 1", "made 2"]
    assert memory.get(images[2], lambda: "again") == "made 2"
    assert memory.get(images[0], lambda: "again") == "again"


def test_what_is_kept_of_an_image_goes_when_a_scan_is_closed() -> None:
    memory = backends.stem_memory("a test's own, too")
    image = np.zeros((4, 4), np.float32)
    assert memory.get(image, lambda: "first") == "first"
    Embeddings().forget("a scan")
    assert memory.get(image, lambda: "second") == "second"


@pytest.mark.parametrize(
    ("capability", "has_instructions", "computes"),
    [
        ("AVX512", True, True),
        ("AVX512", False, False),
        ("AVX2", True, False),
        ("AVX2", False, False),
    ],
)
def test_a_cpu_computes_in_bfloat16_where_it_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, capability: str, has_instructions: bool, computes: bool
) -> None:
    """torch itself can be told to use less than the processor has, by ATEN_CPU_CAPABILITY."""
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: has_instructions)
    assert computes_in_bfloat16(torch.device("cpu")) is computes


# The cache of compiled models


def test_a_compiled_models_name_depends_on_weights_part_and_precision() -> None:
    names = {
        cache_key(part, weights, precision)
        for part in ("stem", "body")
        for weights in ("aa", "ab")
        for precision in ("float32", "bfloat16")
    }
    assert len(names) == 8
    assert cache_key("stem", "aa", "float32") in names


@pytest.mark.slow
@needs_openvino
def test_other_weights_are_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled_cache.CACHE_VARIABLE, str(tmp_path))
    built = []

    def build() -> InferenceNetwork:
        network = load_litemedsam()[0]
        with torch.no_grad():
            network.mask_decoder.iou_token.weight += len(built)
        built.append(network)
        return InferenceNetwork(network)

    answers = []
    for key in ("a", "b", "a"):
        monkeypatch.setattr(openvino_backend, "_COMPILED_STEMS", {})
        backend = openvino_backend.OpenVinoBackend(build, key=key, stem_key="stem")
        features = np.zeros((1, 4096, 256), np.float16)
        answers.append(backend.decode(features, np.array([[9, 9, 99, 99]], np.float32))[1][0])
    assert len(built) == 2
    assert answers[0] == answers[2] != answers[1]


@needs_openvino
def test_openvino_uses_as_many_threads_as_torch_is_told_to_on_any_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inference: InferenceNetwork
) -> None:
    monkeypatch.setenv(compiled_cache.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for _ in ("compiled", "from the cache"):
        part = openvino_backend._part("decoder", "threads", "float32", lambda: inference)
        model = part._request.get_compiled_model()
        assert model.get_property("INFERENCE_NUM_THREADS") == 1
        assert not model.get_property("ENABLE_CPU_PINNING")  # else several processes share one core


def test_the_cache_gives_back_what_was_written_and_nothing_that_was_changed(
    tmp_path: Path,
) -> None:
    cache = CompiledCache(tmp_path / "cache")
    assert cache.read("key") is None
    cache.write("key", b"a model")
    assert cache.read("key") == b"a model"
    (path,) = (tmp_path / "cache").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"L")
    assert cache.read("key") is None


def test_what_a_kill_left_in_the_cache_goes_with_the_next_model(tmp_path: Path) -> None:
    left = tmp_path / ".part-7-0123abcd.blob"
    left.write_bytes(b"half a mod")
    os.utime(left, (0, 0))
    CompiledCache(tmp_path).write("key", b"a model")
    assert [path.name for path in tmp_path.iterdir()] == ["key.blob"]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="a folder's rights are POSIX's")
def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path / "cache")
    cache.write("key", b"a model")
    (tmp_path / "cache").chmod(0o777)
    assert cache.read("key") is None
    cache.write("other", b"a model")
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_cache_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = CompiledCache(tmp_path / "file" / "cache")
    cache.write("key", b"a model")
    assert cache.read("key") is None


def test_the_least_recently_used_models_are_dropped(tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path, most=2)
    for age, key in ((300, "old"), (200, "older when read"), (100, "new")):
        cache.write(key, key.encode())
        os.utime(tmp_path / f"{key}.blob", (1e9 - age, 1e9 - age))
    assert cache.read("old") is None
    assert cache.read("older when read") is not None  # and is now the latest
    cache.write("newest", b"newest")
    assert {path.stem for path in tmp_path.iterdir()} == {"older when read", "newest"}


def test_the_cache_is_the_users_own_or_where_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled_cache.CACHE_VARIABLE, "somewhere")
    assert compiled_cache.cache_folder() == Path("somewhere")
    monkeypatch.delenv(compiled_cache.CACHE_VARIABLE)
    assert compiled_cache.cache_folder().name.lower() in ("ichseg", "cache")
