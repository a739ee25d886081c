"""Where blood is likely on the slices of every open scan: small maps, made of embeddings that are there anyway.

The background hands each embedding of the finder's method over as soon as it has made it (``Embeddings.plan``). What is
kept of it is a map of a few kilobytes, so that the embedding itself may be dropped.
"""

from __future__ import annotations

import logging
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ichseg.methods.detection import DETECTION, DETECTIONS, load_proposals, no_proposals
from ichseg.methods.frame import MODEL_SIZE, FloatArray
from ichseg.methods.proposals import top_mean
from ichseg.scan.slabs import slab_at, slabs_of, slices_of
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.blood_finder import BloodFinder
    from ichseg.methods.predictor import SliceEmbedding

#: All maps together; one is a few kilobytes. Beyond it none are kept, and *Suggest* makes them again.
BUDGET_BYTES = 64 << 20
#: Less than this is nothing: no rule's proposals reach as far.
_NOTHING = 0.02

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Map:
    """One slice: its probabilities in its frame, float16, deflated; and how suspicious it is as a whole."""

    deflated: bytes
    suspicion: float


class Likely:
    """The maps by scan (an embeddings' owner) and slice, shared by all sessions. Thread-safe."""

    def __init__(self, budget_bytes: int = BUDGET_BYTES) -> None:
        self.budget_bytes = budget_bytes
        self._maps: dict[str, dict[int, _Map]] = {}
        self._lock = threading.Lock()
        self._failed = False

    @property
    def missing(self) -> str:
        """Why there is no finder here, in a sentence; empty where there is one."""
        return no_proposals()

    @cached_property
    def finder(self) -> BloodFinder:
        """The finder that ships. Raises WeightsError where it is not here."""
        return load_proposals()

    def suspicion(self, owner: str) -> Mapping[int, float]:
        """How likely there is blood on each slice that was looked at, 0 to 1, by slice."""
        with self._lock:
            return {k: one.suspicion for k, one in sorted(self._maps.get(owner, {}).items())}

    def of_slice(self, owner: str, k: int) -> FloatArray | None:
        """The probability of blood in a slice's frame, float32 [256, 256]; None where it was not looked at."""
        with self._lock:
            one = self._maps.get(owner, {}).get(k)
        if one is None:
            return None
        flat = np.frombuffer(zlib.decompress(one.deflated), dtype=np.float16)
        return flat.reshape(MODEL_SIZE, MODEL_SIZE).astype(np.float32)

    def look(self, owner: str, volume: CTVolume, k: int, embedding: SliceEmbedding) -> FloatArray:
        """Look at slice k, whose embedding by the finder's method is given, and keep its map.

        Of a thin series it is the slab that holds the slice (``slab_at``), whose map is that of all its slices.
        """
        found = np.asarray(self.finder.of_slice(volume, k, embedding), dtype=np.float16)
        found = np.where(found < _NOTHING, np.float16(0), found)
        one = _Map(zlib.compress(found.tobytes(), 1), top_mean(found.astype(np.float32)))
        with self._lock:
            held = {id(each): each for maps in self._maps.values() for each in maps.values()}
            if (
                sum(len(each.deflated) for each in held.values()) + len(one.deflated)
                <= self.budget_bytes
            ):
                slices = slices_of(slab_at(volume, k))
                self._maps.setdefault(owner, {}).update(dict.fromkeys(slices, one))
        return found.astype(np.float32)

    def reader(self, owner: str, volume: CTVolume) -> Reader | None:
        """What takes a scan's embeddings in the background; None where there is no finder."""
        return None if self._failed or self.missing else Reader(self, owner, volume)

    def forget(self, owner: str) -> None:
        """Drop a scan's maps."""
        with self._lock:
            self._maps.pop(owner, None)

    def fail(self) -> None:
        """Leave the background alone from now on; whoever presses *Suggest* is told why."""
        _log.exception("looking for blood in the background failed")
        self._failed = True

    def has_map(self, owner: str, k: int) -> bool:
        """Whether a slice's map is kept. Without a lock: the background asks it under its own."""
        return k in self._maps.get(owner, {})

    @property
    def is_failed(self) -> bool:
        """Whether the background was left alone."""
        return self._failed


@dataclass(frozen=True)
class Reader:
    """Takes one scan's embeddings in the background, as ``Embeddings.plan`` has it; it goes with the plan."""

    likely: Likely
    owner: str
    volume: CTVolume

    def wants(self, model: str, k: int | range) -> bool:
        """Whether the embedding of slice k, or of a slab of these slices, by a model is of use."""
        if isinstance(k, int) is not (slabs_of(self.volume) is None):
            return False
        if self.likely.is_failed or self.likely.has_map(self.owner, _first(k)):
            return False
        return model == DETECTIONS[DETECTION].embedded_by

    def take(self, k: int | range, embedding: SliceEmbedding) -> None:
        """Look at slice k, or at a slab of these slices."""
        try:
            self.likely.look(self.owner, self.volume, _first(k), embedding)
        except Exception:
            self.likely.fail()


def _first(k: int | range) -> int:
    return k if isinstance(k, int) else k[0]
