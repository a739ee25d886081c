"""The steps of undo and redo of one document, and several changes made as one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ichseg.marks.state import State

#: Steps that undo can go back.
UNDO_LIMIT = 200

#: Bytes of what steps that can be undone brought; beyond these the oldest go. A usual step is a few kilobytes.
UNDO_BYTES = 32 << 20


class History:
    """States in the order in which they were made, and which of them is now.

    Changes that change nothing are not steps. A new change after an undo drops what could have been redone. The
    states share what they leave alone, so a history stays small; it is bounded in steps and in bytes, but for the
    last step, which can always be undone.
    """

    def __init__(self, first: State) -> None:
        self._steps = [first]
        self._brought = [0]
        """Bytes that each step brought."""
        self._at = 0
        self._draft: State | None = None

    @property
    def now(self) -> State:
        """The state that is shown; not to be changed (``push`` a copy)."""
        return self._draft or self._steps[self._at]

    def all(self) -> list[State]:
        """Every state that undo or redo may show, and the one that is being made."""
        return [*self._steps, *([self._draft] if self._draft else [])]

    def push(self, state: State) -> None:
        """Make a state the next step, or a part of the step that is being made."""
        if state == self.now:
            return
        if self._draft is not None:
            self._draft = state
            return
        brought = state.bytes_beside(self._steps[self._at])
        self._steps[self._at + 1 :] = [state]
        self._brought[self._at + 1 :] = [brought]
        first = max(0, len(self._steps) - UNDO_LIMIT - 1)
        while first < len(self._steps) - 2 and sum(self._brought[first + 1 :]) > UNDO_BYTES:
            first += 1
        del self._steps[:first], self._brought[:first]
        self._at = len(self._steps) - 1

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier step."""
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        """Whether a step was undone and nothing was edited since."""
        return self._at < len(self._steps) - 1

    def undo(self) -> bool:
        """Go back one step; False where there is none."""
        if not self.can_undo:
            return False
        self._at -= 1
        return True

    def redo(self) -> bool:
        """Take back the last undo; False where there is none."""
        if not self.can_redo:
            return False
        self._at += 1
        return True

    @contextmanager
    def one_step(self) -> Iterator[None]:
        """Make all that is pushed within it one step; none of it stays where it ends with an exception."""
        if self._draft is not None:  # within another: that one's step
            yield
            return
        self._draft = self.now.copy()
        try:
            yield
            done = self._draft
        finally:
            self._draft = None
        self.push(done)
