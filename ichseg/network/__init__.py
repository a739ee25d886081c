"""LiteMedSAM in plain torch."""

from ichseg.network.litemedsam import LORA_TARGETS, LiteMedSAM

__all__ = ["LORA_TARGETS", "LiteMedSAM"]
