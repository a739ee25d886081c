"""Proposals that were accepted, as lesions with their boxes in a document: for page, command line and library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ichseg.errors import BoxError
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.marks.lesion import Lesion

#: {slice from 0: boxes in native pixels}, as a proposal and a prompt have them.
BoxesBySlice = Mapping[int, Sequence[Box]]


def accept(marked: Segmentation, proposals: Iterable[BoxesBySlice]) -> list[int]:
    """Make each proposal a lesion of a document, its boxes as if a person had drawn them; all in one step of undo.

    The lesion that a document has from its start is taken first, where nothing is marked of it. Whose masks answer the
    boxes is the caller's to say, as for any box (``Segmentation.add_masks``).

    Args:
        marked: the document.
        proposals: the boxes of each.

    Returns:
        The number of each one's lesion, in their order.

    Raises:
        BoxError: a slice or a box that is not on the scan, or a proposal without a box; nothing is changed then.
        LesionError: more lesions than a mask can have.

    >>> from ichseg.marks.document import Segmentation
    >>> marked = Segmentation((3, 8, 8))
    >>> accept(marked, [{1: [Box(1, 1, 4, 4)], 2: [Box(1, 1, 3, 3)]}, {0: [Box(5, 5, 8, 8)]}])
    [1, 2]
    >>> marked.boxes(2, 1)[0].text, marked.undo(), marked.marked_slices()
    ('1,1,3,3', True, [])

    """
    numbers = []
    with marked.one_step():
        for boxes in proposals:
            drawn = {k: some for k, some in sorted(boxes.items()) if len(some)}
            if not drawn:
                raise BoxError(
                    "A proposal is accepted by its boxes; one of these has none; leave it out."
                )
            number = _unused(marked)
            for k, some in drawn.items():
                marked.set_boxes(k, number, some, {})
            numbers.append(number)
    return numbers


def _unused(marked: Segmentation) -> int:
    """The one lesion of a document on which nothing is marked, or else a new one."""
    untouched = marked.lesions == [Lesion(1)] and not marked.marked_slices(lesion=1)
    return 1 if untouched else marked.add_lesion()
