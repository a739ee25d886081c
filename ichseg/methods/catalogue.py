"""The catalogue: a model's name to a ready predictor, its weights checked before use.

Weights are looked up in this order: an explicit path, ``weights/``, the hub cache, the hub. Every file that the
manifest names is hashed before it is read, and only safetensors are read, never a pickle.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ichseg.errors import InputError, WeightsError
from ichseg.measures.growth import ModelError
from ichseg.methods.backends import OpenVinoBackend, TorchBackend, check_backend, pick_backend
from ichseg.methods.identity import Identity, identity_of
from ichseg.replace_file import write_whole

if TYPE_CHECKING:
    from ichseg.methods.backends import Backend
    from ichseg.methods.network import BoxNetwork, LiteMedSAM
    from ichseg.methods.network.inference import InferenceNetwork
    from ichseg.methods.predictor import Predictor

#: Where the repository keeps its weights; ICHSEG_WEIGHTS names another folder of the same layout.
WEIGHTS_DIR = Path(
    os.environ.get("ICHSEG_WEIGHTS", Path(__file__).resolve().parents[2] / "weights")
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelInfo:
    """One line of the catalogue, as the page and the command line show it."""

    name: str
    title: str
    summary: str
    weights: tuple[str, ...] = ()
    """Entries of weights/manifest.json that it needs."""
    takes_box: bool = True
    """As Predictor.takes_box: False for a method that finds blood on the whole slice and is cut to the box."""


CATALOGUE = {
    info.name: info
    for info in (
        ModelInfo(
            "litemedsam-rslora",
            "LiteMedSAM + rsLoRA",
            "LiteMedSAM fine-tuned on head CT with a rank-stabilised low-rank adapter.",
            ("litemedsam", "litemedsam-rslora"),
        ),
        ModelInfo(
            "litemedsam",
            "LiteMedSAM",
            "The public checkpoint, not tuned to hemorrhage: what the adapter is compared with.",
            ("litemedsam",),
        ),
        ModelInfo(
            "medsam",
            "MedSAM (ViT-B)",
            "The full MedSAM, 1024 x 1024, not tuned to hemorrhage; slow without a GPU.",
            ("medsam",),
        ),
        ModelInfo(
            "sam",
            "SAM (ViT-B)",
            "Segment Anything, trained on photographs, 1024 x 1024; slow without a GPU.",
            ("sam",),
        ),
        ModelInfo(
            "resattunet",
            "Residual Attention U-Net",
            "A network trained here from nothing; takes no box, its answer is cut to the box.",
            ("resattunet",),
            takes_box=False,
        ),
        ModelInfo(
            "drunet",
            "DR-UNet",
            "A dimension-reduction U-Net trained here; takes no box, its answer is cut to the box.",
            ("drunet",),
            takes_box=False,
        ),
        ModelInfo(
            "unet",
            "U-Net",
            "A U-Net trained here from nothing; takes no box, its answer is cut to the box.",
            ("unet",),
            takes_box=False,
        ),
        ModelInfo(
            "random-forest",
            "Random forest",
            "Hand-made features of each pixel; takes no box, its answer is cut to the box.",
            ("random-forest",),
            takes_box=False,
        ),
        ModelInfo(
            "fcm",
            "Fuzzy c-means in the box",
            "Three classes of brightness within the box; the brightest is blood.",
        ),
        ModelInfo(
            "threshold",
            "Threshold in the box",
            "Voxels above 45 HU inside the box, smoothed by a median filter, holes filled.",
        ),
    )
}

#: Beside a model's weights: how it was trained, how it is run, and how it scored.
TRAINING_FILE = "training.json"
#: Beside a model's weights: how far its volumes are off on phantoms (``tools.phantom score --held-out``).
PHANTOMS_FILE = "phantoms.json"

#: What a training record's data set is called for people, with what was scanned.
_DATASETS = {"ct-ich-1.0.0": "CT-ICH 1.0.0 (trauma CT)"}

#: What LiteMedSAM's weights are called in a record.
LITEMEDSAM_FILE = "litemedsam/model.safetensors"

#: What makes an adapter: its scaling stands in the configuration, so that its matrices alone do not say what it does.
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")

#: The networks that an adapter may be made for; an adapter that names none is LiteMedSAM's.
BASES = ("litemedsam", "sam", "medsam")

#: What the page and the command line use unless told otherwise, best first.
PREFERENCE = ("litemedsam-rslora", "litemedsam")


def default_model() -> str:
    """The best model whose weights are here."""
    return next((name for name in PREFERENCE if available(name)[0]), PREFERENCE[-1])


def default_baseline() -> str:
    """What the default model is shown beside: the un-tuned model once an adapter is there."""
    return "litemedsam" if default_model() == "litemedsam-rslora" else "threshold"


def takes_edge(name: str) -> bool:
    """Whether the edge at half height (``marks.edge``) is drawn on a method's masks: on every network's with a box.

    Both panes of the page are treated alike, so that they show what the adapter gives, and not what the edge does.

    >>> [takes_edge(name) for name in ("litemedsam-rslora", "litemedsam", "resattunet", "threshold")]
    [True, True, False, False]
    """
    if name in CATALOGUE:
        return CATALOGUE[name].takes_box and bool(CATALOGUE[name].weights)
    return _whole_slice_folder(name) is None


def mask_identity(predictor: Predictor, *, edge: bool, refinement: bool | None = None) -> Identity:
    """The identity of a predictor's masks, with the edge at half height where that is on and the method takes it.

    ``refinement`` is as in ``identity_of``.
    """
    return identity_of(predictor, refinement=refinement, edge=edge_setting(predictor.name, edge))


def edge_setting(name: str, on: bool) -> bool | None:
    """What an identity says of the edge on a method's masks: True, or None where that step is not taken."""
    return True if on and takes_edge(name) else None


def available(name: str) -> tuple[bool, str]:
    """Whether a catalogue model can be loaded without the network, and a sentence why not."""
    info = _info(name)
    for entry_name in info.weights:
        entry = _manifest().get(entry_name)
        if entry is None:
            return False, f"The weights of {info.title} are not published yet."
        for path in [file["path"] for file in entry["files"]] or [_unlisted(entry_name)]:
            if _local(entry_name, path) is None:
                told = f"{path}{_origin(entry)}"
                return False, f"The weights of {info.title} are not on this machine ({told})."
    return True, ""


def fetch(name: str, tqdm_class: type[Any] | None = None) -> None:
    """Bring a catalogue model's weights from the hub into its cache, where they are not here yet.

    Args:
        name: a catalogue name.
        tqdm_class: a subclass of tqdm that shows the download's progress; the hub's own, on standard error, if None.

    Raises:
        WeightsError: an unknown name; a file that is not on the hub, or a hub that cannot be reached.

    """
    for entry_name in _info(name).weights:
        entry = _manifest().get(entry_name, {"files": []})
        for path in [file["path"] for file in entry["files"]] or [_unlisted(entry_name)]:
            if _local(entry_name, path) is None:
                _from_hub(entry_name, path, tqdm_class)


def hub_hindrance(name: str) -> str:
    """Why what is missing of a catalogue model's weights cannot be fetched now; empty where it can. Asks the hub."""
    info = _info(name)
    for entry_name in info.weights:
        entry = _manifest().get(entry_name, {"files": []})
        paths = [file["path"] for file in entry["files"]] or [_unlisted(entry_name)]
        if entry_name in _manifest() and all(_local(entry_name, path) for path in paths):
            continue
        repo = entry.get("hub_repo")
        if not repo:
            return "They have no place on the hub yet."
        try:
            _ask_hub(repo)
        except Exception as error:  # as in _from_hub
            return f"The hub cannot be reached from here ({type(error).__name__})."
    return ""


def load_predictor(
    name: str | None = None, device: str = "auto", backend: str | None = None
) -> Predictor:
    """A ready predictor, shared by all who ask for the same one.

    Args:
        name: a catalogue name (``CATALOGUE``), a folder that holds a peft LoRA adapter of LiteMedSAM, SAM or MedSAM,
            the id ``owner/name`` of such an adapter on the Hugging Face hub, or a folder that ``train baseline`` wrote.
            None is ``default_model()``.
        device: "auto" (CUDA where there is one, else the CPU), "cpu" or "cuda".
        backend: "torch"; "openvino", which runs LiteMedSAM and its adapters on a CPU; or "auto": the faster one that is
            here. None is what the variable ICHSEG_BACKEND says, else "auto".

    Raises:
        WeightsError: an unknown name; a weight file that is absent or is not what the manifest promises.
        InputError: a device or a back end that is not here, or cannot run the model.

    """
    name = default_model() if name is None else str(name)
    asked = check_backend(backend)
    with _LOADING:
        key = (name, device, asked)
        if key not in _LOADED:
            _LOADED[key] = _load(name, device, asked)
        return _LOADED[key]


def title_of(name: str) -> str:
    """What people call a model of the catalogue, or an adapter by its folder or hub id."""
    return CATALOGUE[name].title if name in CATALOGUE else Path(name).name


def model_error(name: str) -> ModelError | None:
    """How far a model's volumes were off in cross-validation, a box a slice; None where that was not measured.

    ``train evaluate`` scores the folds, and ``train export --scores`` puts what it found into training.json. Of models
    that are not in the catalogue nothing is known: a name may come from a file's header.
    """
    entry = CATALOGUE[name].weights[-1:] if name in CATALOGUE else ()
    if not entry or entry[0] not in _manifest():
        return None
    path = _local(entry[0], f"{name}/{TRAINING_FILE}")
    training = {} if path is None else json.loads(path.read_text())
    scores = training.get("scores", {})
    found = scores.get("protocols", {}).get("slice", {}).get("patient_volume_difference")
    if found is None:
        return None
    mean, sd = (100 * found[key] for key in ("mean", "sd"))
    dataset = str(training.get("data", {}).get("dataset", ""))
    return ModelError(
        name,
        title_of(name),
        mean,
        sd,
        found["n_patients"],
        dataset=_DATASETS.get(dataset, dataset),
        on_phantoms=_on_phantoms(_local(entry[0], f"{name}/{PHANTOMS_FILE}")),
    )


def _on_phantoms(path: Path | None) -> str:
    """What ``tools.phantom score --held-out`` found of a model, as a sentence; empty where there is no such file."""
    if path is None:
        return ""
    found = json.loads(path.read_text())
    bias, low, high = (
        f"{100 * found[key]:+.1f} %".replace("-", "−") for key in ("bias", "low", "high")
    )
    return (
        f"On {found['phantoms']} synthetic heads whose blood is known (parenchymal, {found['least_ml']:g} mL and more, "
        f"with the edge; nothing was chosen on them) volumes were off by {bias} on average, with 95 % limits of {low} "
        f"to {high}."
    )


def backend_of(name: str) -> str:
    """Which back end runs a model that is loaded, for people; empty for one that is not, or that has no network."""
    predictor = _LOADED.get((name, "auto", check_backend(None)))
    return getattr(getattr(predictor, "backend", None), "title", "")


_LOADED: dict[tuple[str, str, str], Predictor] = {}
_LOADING = threading.Lock()


def _load(name: str, device: str, backend: str) -> Predictor:
    if name == "threshold":
        from ichseg.methods.threshold import ThresholdPredictor

        return ThresholdPredictor()
    if name == "fcm":
        from ichseg.methods.fcm import FuzzyCMeansPredictor

        return FuzzyCMeansPredictor()
    if (folder := _whole_slice_folder(name)) is not None:
        _refuse_openvino(name, backend)
        title = CATALOGUE[name].title if name in CATALOGUE else folder.name
        return _load_whole_slice(folder, name, title, device)
    from ichseg.methods.predictor import NetworkPredictor

    if name in CATALOGUE:
        title, adapter = CATALOGUE[name].title, None
        base = CATALOGUE[name].weights[0]
        if len(CATALOGUE[name].weights) > 1:
            adapter = _manifest_folder(CATALOGUE[name].weights[1], title)
    else:
        title, adapter = Path(name).name, _adapter_folder(name)
        base = base_of(adapter)
    settings: dict[str, Any] = {}
    if adapter is not None and (adapter / TRAINING_FILE).is_file():
        settings = json.loads((adapter / TRAINING_FILE).read_text()).get("inference", {})
    if base == "litemedsam":
        ready, hashes = _ready_litemedsam(adapter, device, backend)
    else:
        _refuse_openvino(name, backend)
        network, hashes = _network(base, adapter)
        ready = TorchBackend(network, device=device)
        settings["packages"] = ("transformers",)
    return NetworkPredictor(ready, name, title, hashes, **settings)


def _ready_litemedsam(
    adapter: Path | None, device: str, backend: str
) -> tuple[Backend, dict[str, str]]:
    """LiteMedSAM on the back end that is asked for, and {file: sha256} of its weights."""
    # Dice with float32's masks on CT-ICH is to be 0.995 (tests/test_backends.py): with an adapter bfloat16 behind the
    # stem keeps that (0.997), for the un-tuned network it does not (0.988).
    bfloat16 = adapter is not None
    stem_key = sha256(_manifest_folder("litemedsam", "LiteMedSAM") / "model.safetensors")
    hashes = {LITEMEDSAM_FILE: stem_key}
    adapted = {} if adapter is None else {f: sha256(adapter / f) for f in ADAPTER_FILES}
    if pick_backend(backend, device) == "openvino":
        key = "+".join([stem_key, *adapted.values()])
        try:
            ready: Backend = OpenVinoBackend(
                lambda: cast(
                    "InferenceNetwork", _network("litemedsam", adapter)[0].for_inference()
                ),
                key=key,
                stem_key=stem_key,
                bfloat16=bfloat16,
            )
        except (ImportError, RuntimeError) as error:
            if backend == "openvino":
                raise
            _log.warning("OpenVINO cannot be used here (%s); torch is", type(error).__name__)
        else:
            if adapter is not None:
                hashes |= {_adapter_file(adapter, file): sha for file, sha in adapted.items()}
            return ready, hashes
    network, hashes = _network("litemedsam", adapter)
    ready = TorchBackend(
        network.for_inference(), device=device, bfloat16=bfloat16, stem_key=stem_key
    )
    return ready, hashes


def _network(base: str, adapter: Path | None) -> tuple[BoxNetwork, dict[str, str]]:
    """A base with an adapter merged into it, if there is one, and {file: sha256} of both."""
    network, hashes = load_base(base)
    if adapter is not None:
        hashes |= merge_adapter(network, adapter)
    return network, hashes


def _refuse_openvino(name: str, backend: str) -> None:
    if backend == "openvino":
        raise InputError(
            f"Back end 'openvino' runs LiteMedSAM and its adapters; got model '{name}'; use 'auto' or 'torch'."
        )


def _whole_slice_folder(name: str) -> Path | None:
    """Where a trained method without a prompt is kept, if the name, or the folder, is one of those."""
    if name in CATALOGUE:
        info = CATALOGUE[name]
        return None if info.takes_box else _manifest_folder(name, info.title)
    config = Path(name) / "config.json"
    if not config.is_file() or "architecture" not in json.loads(config.read_text()):
        return None
    return config.parent


def _load_whole_slice(folder: Path, name: str, title: str, device: str) -> Predictor:
    """Open what ``train baseline`` wrote: config.json names the architecture, model.safetensors has what was learnt."""
    files = (folder / "config.json", folder / "model.safetensors")
    if not files[1].is_file():
        raise WeightsError(
            f"A trained model's folder holds config.json and model.safetensors; {folder.name} has no "
            "model.safetensors; point at a folder that train baseline finished."
        )
    hashes = {f"{folder.name}/{path.name}": sha256(path) for path in files}
    if json.loads(files[0].read_text())["architecture"] == "random-forest":
        from ichseg.methods.random_forest import RandomForestPredictor

        return RandomForestPredictor.from_folder(folder, name, title, hashes)
    from ichseg.methods.unets import UNetPredictor

    return UNetPredictor.from_folder(folder, name, title, hashes, device)


def load_base(name: str) -> tuple[BoxNetwork, dict[str, str]]:
    """One of BASES, un-tuned, in float32 on the CPU, in evaluation mode, and {file: sha256} of its weights."""
    if name == "litemedsam":
        return load_litemedsam()
    if name not in BASES:
        raise WeightsError(
            f"A base is one of {', '.join(BASES)}; got '{name}'; choose one of them."
        )
    from ichseg.methods.sam import load_sam

    return load_sam(name)


def base_of(adapter: Path) -> str:
    """Which of BASES an adapter in a folder was made for, by the repository that its configuration names."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    repo = config.get("base_model_name_or_path")
    repos = {"litemedsam": None} | {name: hub_repo(name) for name in BASES[1:]}
    for name, known in repos.items():
        if repo == known:
            return name
    raise WeightsError(
        f"An adapter here is one of LiteMedSAM, {repos['sam']} or {repos['medsam']}; {adapter.name} is one of {repo}; "
        "use an adapter made for one of them."
    )


def hub_repo(name: str) -> str:
    """Where a manifest entry's weights are on the hub."""
    return str(_manifest()[name]["hub_repo"])


def unlisted_weights(name: str) -> Path:
    """The weights file of ``sam`` or ``medsam``, in weights/, in the hub's cache or fetched from the hub.

    The manifest has no hash of it, as the file has never been read where the manifest is written; what keeps a wrong
    one out is that each of its tensors must be in place, and its own hash goes into every record.
    """
    path = _unlisted(name)
    return _local(name, path) or _from_hub(name, path)


def load_litemedsam() -> tuple[LiteMedSAM, dict[str, str]]:
    """The un-tuned network in float32 on the CPU, in evaluation mode, and {file: sha256} of its weights."""
    from safetensors.torch import load_file

    from ichseg.methods.network import LiteMedSAM

    folder = _manifest_folder("litemedsam", "LiteMedSAM")
    path = folder / "model.safetensors"
    network = LiteMedSAM()
    network.load_state_dict(load_file(path), strict=True)
    return network.eval(), {LITEMEDSAM_FILE: sha256(path)}


def merge_adapter(network: BoxNetwork, folder: Path) -> dict[str, str]:
    """Add a peft LoRA adapter's update to the network's weights in place: W + s B A.

    The scaling s is alpha / sqrt(r) for a rank-stabilised adapter (Kalajdzievski 2023), else alpha / r. Reading
    the two matrices directly spares the seconds that importing peft takes; a test holds it against peft.

    Args:
        network: with its base weights.
        folder: holds adapter_config.json and adapter_model.safetensors, as peft saves them.

    Returns:
        {file: sha256} of the adapter: of its matrices, and of the configuration that says how strongly they count.

    """
    import torch
    from safetensors.torch import load_file

    config = json.loads((folder / "adapter_config.json").read_text())
    if (
        config.get("peft_type") != "LORA"
        or config.get("bias", "none") != "none"
        or config.get("use_dora")
    ):
        raise WeightsError(
            f"An adapter here is plain LoRA without bias; {folder.name} is {config.get('peft_type')} with "
            f"bias {config.get('bias')}; export it again with train export."
        )
    rank = config["r"]
    scaling = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    layers = {name.rsplit(".lora_", 1)[0] for name in tensors}
    modules = dict(network.named_modules())
    with torch.no_grad():
        for layer in sorted(layers):
            target = modules.get(layer.removeprefix("base_model.model."))
            down, up = tensors.get(f"{layer}.lora_A.weight"), tensors.get(f"{layer}.lora_B.weight")
            if not isinstance(target, torch.nn.Linear) or down is None or up is None:
                raise WeightsError(
                    f"An adapter's layers are linear layers of {type(network).__name__}; {folder.name} has {layer}; "
                    "use an adapter made for this network."
                )
            target.weight += scaling * (up.float() @ down.float())
    return {_adapter_file(folder, file): sha256(folder / file) for file in ADAPTER_FILES}


def _adapter_file(folder: Path, file: str) -> str:
    """What a file of an adapter is called in a record."""
    return f"{folder.name}/{file}"


def record_weights(name: str, files: Iterable[Path], *, source: str, licence: str) -> None:
    """Write a model's files with their hashes into weights/manifest.json."""
    manifest = _manifest()
    manifest[name] = {
        "files": [
            {
                "path": path.relative_to(WEIGHTS_DIR).as_posix(),
                "sha256": sha256(path),
                "bytes": path.stat().st_size,
            }
            for path in files
        ],
        "source": source,
        "licence": licence,
        "hub_repo": manifest.get(name, {}).get("hub_repo"),
    }
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    write_whole(WEIGHTS_DIR / "manifest.json", text.encode())


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _info(name: str) -> ModelInfo:
    if name not in CATALOGUE:
        raise WeightsError(
            f"A model is one of {', '.join(CATALOGUE)}, an adapter's folder or its hub id owner/name; got '{name}'; "
            "choose one of them."
        )
    return CATALOGUE[name]


def _manifest() -> dict[str, Any]:
    path = WEIGHTS_DIR / "manifest.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _manifest_folder(name: str, title: str) -> Path:
    """The folder of a manifest entry, every file in it present and verified."""
    entry = _manifest().get(name)
    if entry is None:
        raise WeightsError(
            f"The weights of {title} are listed in weights/manifest.json; there is no entry '{name}'; "
            "train and export them as the README says, or choose another model."
        )
    paths = []
    for file in entry["files"]:
        path = _local(name, file["path"]) or _from_hub(name, file["path"])
        got = sha256(path)
        if got != file["sha256"]:
            raise WeightsError(
                f"Weights are used only when their hash is the manifest's: expected {file['sha256']} for "
                f"{file['path']}, got {got}; delete the file and fetch it again."
            )
        paths.append(path)
    return paths[0].parent


def _local(name: str, relative: str) -> Path | None:
    """A manifest file in weights/ or in the hub cache, without the network."""
    path = WEIGHTS_DIR / relative
    if path.is_file():
        return path
    entry = _manifest()[name]
    if entry.get("hub_repo"):
        from huggingface_hub import try_to_load_from_cache

        for revision in _revisions(entry):
            cached = try_to_load_from_cache(
                entry["hub_repo"], Path(relative).name, revision=revision
            )
            if isinstance(cached, str):
                return Path(cached)
    return None


def _unlisted(name: str) -> str:
    """The place in weights/ of a file that the manifest cannot list with its hash."""
    return f"{name}/model.safetensors"


def _origin(entry: dict[str, Any]) -> str:
    """Size and place of weights that are not part of the repository, for a sentence."""
    if "megabytes" not in entry:
        return ""
    return f", about {entry['megabytes']} MB, from {entry['hub_repo']} on the Hugging Face hub"


def _revisions(entry: dict[str, Any]) -> list[str | None]:
    """The revisions of a hub repository to look at, in turn; None is its main branch."""
    return list(entry.get("hub_revisions", [None]))


def _ask_hub(repo: str) -> None:
    """Ask the hub for a repository, for three seconds at most; raises what its client does."""
    from huggingface_hub import HfApi

    HfApi().model_info(repo, timeout=3.0)


def _from_hub(name: str, relative: str, tqdm_class: type[Any] | None = None) -> Path:
    entry = _manifest().get(name, {})
    repo = entry.get("hub_repo")
    if not repo:
        raise WeightsError(
            f"The weights of {name} are needed as weights/{relative}, which is not there and has no place on the "
            "hub yet; restore it from the repository."
        )
    from huggingface_hub import hf_hub_download

    for revision in _revisions(entry):
        try:
            _ask_hub(repo)  # a download would try a hub that cannot be reached for half a minute
            file = Path(relative).name
            return Path(hf_hub_download(repo, file, revision=revision, tqdm_class=tqdm_class))
        except (
            Exception
        ) as error:  # the hub's own errors are many; what the person can do is one thing
            failure = error
    raise WeightsError(
        f"The weights of {name}{_origin(entry)}, as {Path(relative).name} ({repo}), could not be fetched "
        f"({type(failure).__name__}; a pickle is never read in its place); connect, or put the file at "
        f"weights/{relative} (weights/README.md says how)."
    ) from failure


def _adapter_folder(name: str) -> Path:
    """An adapter by folder or by hub id, both files present."""
    folder = Path(name)
    if folder.is_dir():
        for file in ADAPTER_FILES:
            if not (folder / file).is_file():
                raise WeightsError(
                    f"An adapter's folder holds adapter_config.json and adapter_model.safetensors; {folder.name} "
                    f"has no {file}; point at the folder that peft saved."
                )
        return folder
    if name.count("/") != 1 or name.startswith((".", "/")):
        _info(name)
    from huggingface_hub import snapshot_download

    wanted = ["adapter_config.json", "adapter_model.safetensors", TRAINING_FILE]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # as in _from_hub
        raise WeightsError(
            f"'{name}' is neither a model of the catalogue nor a folder, and as a hub id it could not be fetched "
            f"({type(error).__name__}); check the name and the connection, or download the adapter's folder."
        ) from error
