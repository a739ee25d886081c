"""LiteMedSAM in plain torch, and what any network offers that segments from boxes."""

from ichseg.methods.network.box_network import BoxNetwork
from ichseg.methods.network.litemedsam import LORA_TARGETS, LiteMedSAM

__all__ = ["LORA_TARGETS", "BoxNetwork", "LiteMedSAM"]
