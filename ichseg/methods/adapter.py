"""LoRA adapters as peft saves them: found, matched with their base, and merged into its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ichseg.errors import WeightsError
from ichseg.methods.bases import BASES
from ichseg.methods.weights import TRAINING_FILE, sha256

if TYPE_CHECKING:
    from ichseg.methods.network import BoxNetwork

#: What makes an adapter: its scaling stands in the configuration, so that its matrices alone do not say what it does.
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def is_hub_id(name: str) -> bool:
    """Whether a name can be an ``owner/name`` of the Hugging Face hub.

    >>> is_hub_id("owner/name"), is_hub_id("name"), is_hub_id("./a"), is_hub_id("/a")
    (True, False, False, False)
    """
    return name.count("/") == 1 and not name.startswith((".", "/"))


def adapter_folder(name: str) -> Path:
    """An adapter by its folder or by its id on the hub, both files present; raises WeightsError where there is none."""
    folder = Path(name)
    if folder.is_dir():
        for file in ADAPTER_FILES:
            if not (folder / file).is_file():
                raise WeightsError(
                    f"An adapter's folder holds adapter_config.json and adapter_model.safetensors; {folder.name} "
                    f"has no {file}; point at the folder that peft saved."
                )
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[*ADAPTER_FILES, TRAINING_FILE]))
    except Exception as error:  # the hub's own errors are many; what the person can do is one thing
        raise WeightsError(
            f"'{name}' is neither a model of the catalogue nor a folder, and as a hub id it could not be fetched "
            f"({type(error).__name__}); check the name and the connection, or download the adapter's folder."
        ) from error


def base_of(adapter: Path) -> str:
    """Which of BASES an adapter in a folder was made for, by the repository that its configuration names."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    repo = config.get("base_model_name_or_path")
    known = {base.in_adapter(): name for name, base in BASES.items()}
    if repo in known:
        return known[repo]
    *some, last = (base.in_adapter() or base.title for base in BASES.values())
    raise WeightsError(
        f"An adapter here is one of {', '.join(some)} or {last}; {adapter.name} is one of {repo}; "
        "use an adapter made for one of them."
    )


def merge_adapter(network: BoxNetwork, folder: Path) -> dict[str, str]:
    """Add a peft LoRA adapter's update to the network's weights in place: W + s B A.

    The scaling s is alpha / sqrt(r) for a rank-stabilised adapter (Kalajdzievski 2023), else alpha / r. Reading
    the two matrices directly spares the seconds that importing peft takes; a test holds it against peft.

    Args:
        network: with its base weights.
        folder: holds adapter_config.json and adapter_model.safetensors, as peft saves them.

    Returns:
        {file: sha256} of the adapter, as ``adapter_hashes`` gives them.

    """
    import torch
    from safetensors.torch import load_file

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
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
    return adapter_hashes(folder)


def adapter_hashes(folder: Path) -> dict[str, str]:
    """{file: sha256} of an adapter: its matrices, and the configuration that says how strongly they count."""
    return {f"{folder.name}/{file}": sha256(folder / file) for file in ADAPTER_FILES}
