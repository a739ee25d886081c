"""Slice embeddings of every open scan, each computed once, and refinements of masks: people who wait come first."""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ichseg.errors import cancelling
from ichseg.methods.backends import forget_images
from ichseg.methods.catalogue import load_listed
from ichseg.scan.slabs import Slab, Slabs, SliceOrSlab

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ichseg.marks.box import Box
    from ichseg.methods.predictor import Predictor, SliceEmbedding
    from ichseg.page.likely import Reader

#: A quarter of a small server's memory: 512 slices of LiteMedSAM, whose embedding in float16 is 2 MB.
BUDGET_BYTES = 1 << 30

#: How long the background keeps still after a person last asked for something.
QUIET_SECONDS = 0.4

#: How long whoever ends the process waits for the slice that the background is at.
CLOSING_SECONDS = 5.0


@dataclass(frozen=True)
class Key:
    """Whose slice, by which model: an open scan's owner, a catalogue name, a slice from 0, or those of a slab."""

    owner: str
    model: str
    k: int | range

    @classmethod
    def of(cls, owner: str, model: str, where: SliceOrSlab) -> Key:
        """That of a slice or a slab."""
        return cls(owner, model, where.slices if isinstance(where, Slab) else where)


#: An embedding to make: for whom, and of what slice [y, x] in HU.
Job = tuple[Key, "npt.NDArray[np.number]"]


class Embeddings:
    """A least-recently-used store of slice embeddings, shared by all sessions of the process.

    ``admit`` a scan first; what is computed for one that is not (or no longer) admitted is not kept.
    ``get`` answers a person at once: from the store, or by computing, or by waiting for whoever is
    computing the same embedding. ``refine`` decodes one box at native resolution once no person waits.
    ``plan`` names what a scan will probably need; one background
    thread works through the plans in turn, an embedding at a time, and only while no person waits.

    Room is shared fairly: what is dropped belongs to the scan that holds most, and the background
    never grows a scan past its share. Nothing is given out under a key but what was computed for it,
    so that one user's slices never reach another.
    """

    def __init__(
        self,
        load: Callable[[str], Predictor] = load_listed,
        budget_bytes: int = BUDGET_BYTES,
    ) -> None:
        self.load = load
        self.budget_bytes = budget_bytes
        self.computed = 0
        self._kept: OrderedDict[Key, SliceEmbedding] = OrderedDict()
        self._running: dict[Key, Future[SliceEmbedding]] = {}
        self._owners: set[str] = set()
        self._plans: dict[str, deque[Job]] = {}
        self._readers: dict[str, Reader | None] = {}
        self._people = 0
        self._refining = 0
        self._quiet_until = 0.0
        self._changed = threading.Condition()
        self._worker: threading.Thread | None = None
        self._closed = False

    def admit(self, owner: str) -> None:
        """Keep what is computed for this scan, until it is forgotten."""
        with self._changed:
            self._owners.add(owner)

    def get(self, key: Key, slice_hu: npt.NDArray[np.number]) -> SliceEmbedding:
        """The embedding of a slice [y, x] in HU for a person who waits for it.

        Raises WeightsError where the model cannot be loaded.
        """
        with self._changed:
            self._people += 1
        try:
            return self._obtain(key, slice_hu)
        finally:
            with self._changed:
                self._people -= 1
                self._quiet_until = time.monotonic() + QUIET_SECONDS
                self._changed.notify_all()

    def refine(
        self,
        key: Key,
        slice_hu: npt.NDArray[np.number],
        box: Box,
        patience_seconds: float | None = None,
    ) -> npt.NDArray[np.bool_] | None:
        """A box's mask [y, x] as the model refines it; the background keeps still meanwhile.

        With a patience it waits until nobody asks for anything, and gives None where they kept it waiting for longer.
        One box at a time: who draws meanwhile waits for one at most.
        """
        with self._changed:
            if patience_seconds is not None:
                limit = time.monotonic() + patience_seconds
                while self._refining or not self._is_calm():
                    left = limit - time.monotonic()
                    if left <= 0:
                        return None
                    self._changed.wait(min(left, max(0.02, self._quiet_until - time.monotonic())))
            self._refining += 1
        try:
            predicted = self.load(key.model).predict(
                self._obtain(key, slice_hu), [box], second_look=True
            )
            return predicted.masks[0]
        finally:
            with self._changed:
                self._refining -= 1
                self._changed.notify_all()

    def plan(
        self,
        owner: str,
        models: Sequence[str],
        hu_zyx: npt.NDArray[np.number],
        centre: int,
        reader: Reader | None = None,
        slabs: Slabs | None = None,
    ) -> None:
        """Embed a scan's slices in the background, outward from ``centre``; replaces its last plan.

        ``reader`` is given the embeddings that it wants, those that are there already, too. Of a thin series the
        ``slabs`` come first: they are what blood is looked for on, and what a hematoma is followed by.
        """
        wanted: list[tuple[int | range, npt.NDArray[np.number]]] = []
        if slabs is not None:
            order = _outward(len(slabs.each), slabs.number(centre))
            wanted += [(slabs.each[n].slices, slabs.each[n].hu_yx) for n in order]
        wanted += [(k, hu_zyx[k]) for k in _outward(len(hu_zyx), centre)]
        # Slice by slice, so that models with the same stem compute it once.
        jobs = [(Key(owner, model, k), hu) for k, hu in wanted for model in models]
        with self._changed:
            if owner not in self._owners or self._closed:
                return
            self._plans[owner] = deque(jobs)
            self._readers[owner] = reader
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="embeddings", daemon=True)
                self._worker.start()
            self._changed.notify_all()

    def is_planned(self, owner: str) -> bool:
        """Whether the background has yet to embed slices of a scan."""
        with self._changed:
            return owner in self._plans

    def unplan(self, owner: str) -> None:
        """Embed no more of a scan in the background, until it is planned again; what is there stays."""
        with self._changed:
            self._plans.pop(owner, None)
            self._readers.pop(owner, None)

    def hold(self, seconds: float) -> None:
        """Keep the background still for a while: a person is drawing, and will ask in a moment."""
        with self._changed:
            self._quiet_until = max(self._quiet_until, time.monotonic() + seconds)

    def forget(self, owner: str) -> None:
        """Drop a scan's plan and embeddings."""
        with self._changed:
            self._owners.discard(owner)
            self._plans.pop(owner, None)
            self._readers.pop(owner, None)
            for key in [key for key in self._kept if key.owner == owner]:
                del self._kept[key]
        forget_images()

    def close(self) -> None:
        """End the background, once it is done with the slice that it is at: a process that ends in one may crash."""
        with self._changed:
            self._closed = True
            self._plans.clear()
            self._changed.notify_all()
        if self._worker is not None:
            self._worker.join(CLOSING_SECONDS)

    def __contains__(self, key: Key) -> bool:
        with self._changed:
            return key in self._kept

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        with self._changed:
            return sum(kept.nbytes for kept in self._kept.values())

    def _obtain(self, key: Key, slice_hu: npt.NDArray[np.number]) -> SliceEmbedding:
        with self._changed:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
            running = self._running.get(key)
            mine = running is None
            if running is None:
                running = self._running[key] = Future()
        if mine:
            try:
                with cancelling(None):  # others may wait for it, too
                    embedding = self.load(key.model).embed(slice_hu)
            except BaseException as error:
                running.set_exception(error)
                with self._changed:
                    del self._running[key]
                raise
            with self._changed:
                self.computed += 1
                del self._running[key]
                if key.owner in self._owners:
                    self._kept[key] = embedding
                    self._shrink()
            running.set_result(embedding)
        return running.result()

    def _shrink(self) -> None:
        """Drop the least recently used of whoever holds most, until the budget is met."""
        while len(self._kept) > 1:
            held = self._held()
            if sum(held.values()) <= self.budget_bytes:
                return
            greediest = max(held, key=lambda owner: held[owner])
            del self._kept[next(key for key in self._kept if key.owner == greediest)]

    def _held(self) -> dict[str, int]:
        held: dict[str, int] = {}
        for key, kept in self._kept.items():
            held[key.owner] = held.get(key.owner, 0) + kept.nbytes
        return held

    # The background

    def _work(self) -> None:
        for turn in itertools.count():
            with self._changed:
                while (job := self._next(turn)) is None:
                    if self._closed:
                        return
                    self._changed.wait(self._nap())
            key = job[0]
            try:
                embedding = self._obtain(*job)
                reader = self._readers.get(key.owner)
                if reader is not None and reader.wants(key.model, key.k):
                    reader.take(key.k, embedding)
            except Exception:  # nobody asked yet: whoever asks for this model will be told
                self._give_up(key)

    def _is_calm(self) -> bool:
        """Whether no person waits, draws, or did so a moment ago."""
        return not self._people and time.monotonic() >= self._quiet_until

    def _nap(self) -> float | None:
        """Seconds until it is worth looking again; None where nothing is planned."""
        return max(0.02, self._quiet_until - time.monotonic()) if self._plans else None

    def _next(self, turn: int) -> Job | None:
        """The next planned embedding that is not there, one scan after the other; None to wait."""
        if self._refining or not self._is_calm():
            return None
        while self._plans:
            owner = list(self._plans)[turn % len(self._plans)]
            plan = self._plans[owner]
            while plan and self._has_room(owner):
                key, slice_hu = plan.popleft()
                if key not in self._kept and key not in self._running:
                    return key, slice_hu
                reader = self._readers.get(owner)
                if reader is not None and key in self._kept and reader.wants(key.model, key.k):
                    return key, slice_hu
            del self._plans[owner]
            self._readers.pop(owner, None)
        return None

    def _has_room(self, owner: str) -> bool:
        """Whether one more embedding leaves a scan within its share of the budget."""
        largest = max((kept.nbytes for kept in self._kept.values()), default=0)
        share = self.budget_bytes // max(1, len(self._owners))
        return self._held().get(owner, 0) + largest <= share

    def _give_up(self, key: Key) -> None:
        """Take a model that cannot be used out of a scan's plan."""
        with self._changed:
            plan = self._plans.get(key.owner, deque())
            self._plans[key.owner] = deque(job for job in plan if job[0].model != key.model)


def _outward(count: int, centre: int) -> list[int]:
    """The numbers from 0 that there are, those nearest to one first."""
    return sorted(range(count), key=lambda n: (abs(n - centre), n))
