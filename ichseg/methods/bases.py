"""The table of networks that an adapter can be made for, un-tuned: LiteMedSAM, SAM and MedSAM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ichseg.errors import WeightsError
from ichseg.methods.weights import hub_repo, sha256, verified_folder

if TYPE_CHECKING:
    from ichseg.methods.network import BoxNetwork, LiteMedSAM

#: What LiteMedSAM's weights are called in a record.
LITEMEDSAM_FILE = "litemedsam/model.safetensors"


@dataclass(frozen=True)
class Base:
    """One row of the table."""

    title: str
    load: Callable[[], tuple[BoxNetwork, dict[str, str]]]
    """Gives the network in float32 on the CPU, in evaluation mode, and {file: sha256} of its weights."""
    in_adapter: Callable[[], str | None]
    """What an adapter's configuration gives as ``base_model_name_or_path``."""
    packages: tuple[str, ...] = ()
    """What the network is made of, beside torch."""
    has_inference_layout: bool = False
    """Whether ``network.inference`` lays it out for use alone, which OpenVINO can compile."""


def load_litemedsam() -> tuple[LiteMedSAM, dict[str, str]]:
    """The un-tuned network in float32 on the CPU, in evaluation mode, and {file: sha256} of its weights."""
    from safetensors.torch import load_file

    from ichseg.methods.network import LiteMedSAM

    path = verified_folder("litemedsam", "LiteMedSAM") / "model.safetensors"
    network = LiteMedSAM()
    network.load_state_dict(load_file(path), strict=True)
    return network.eval(), {LITEMEDSAM_FILE: sha256(path)}


def _load_sam(name: str) -> tuple[BoxNetwork, dict[str, str]]:
    from ichseg.methods.sam import load_sam

    return load_sam(name)


#: By the name of its entry in weights/manifest.json.
BASES = {
    "litemedsam": Base(
        "LiteMedSAM", load_litemedsam, in_adapter=lambda: None, has_inference_layout=True
    ),
    "sam": Base(
        "SAM",
        lambda: _load_sam("sam"),
        in_adapter=lambda: hub_repo("sam"),
        packages=("transformers",),
    ),
    "medsam": Base(
        "MedSAM",
        lambda: _load_sam("medsam"),
        in_adapter=lambda: hub_repo("medsam"),
        packages=("transformers",),
    ),
}


def load_base(name: str) -> tuple[BoxNetwork, dict[str, str]]:
    """One of BASES, un-tuned, in float32 on the CPU, in evaluation mode, and {file: sha256} of its weights."""
    if name not in BASES:
        raise WeightsError(
            f"A base is one of {', '.join(BASES)}; got '{name}'; choose one of them."
        )
    return BASES[name].load()
