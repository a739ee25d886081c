"""The table and the figure of what methods measured on the phantoms."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ichseg.methods.catalogue import CATALOGUE, takes_edge
from ichseg.methods.weights import PHANTOMS_FILE, TRAINING_FILE
from ichseg.replace_file import replacing, write_whole
from tools.phantom.design import LEAST_ML, PARENCHYMAL, Part, of_part
from tools.phantom.score import BOXES_PX, Measured, agreement, record

_HEAD = """# Volumes of phantoms

By `python -m tools.phantom score{option}`. {count} synthetic head CTs hold known volumes of blood: {what}. Boxes
lie 3 (tight) or 8 pixels (loose) off each connected component of the reference mask, on every slice with one. The
reference volume is the sum of the share of each voxel that blood fills; blur, noise and partial volume do not change
it.

Differences are found less true, as a share of the true volume: bias is their mean, and the 95 % limits of agreement
are mean -+ 1.96 standard deviations (Bland and Altman). "With the edge": each method's outline moved to half height
where that can be judged (`ichseg/marks/edge.py`). The page and the command line draw the edge for the networks that
take a box (LiteMedSAM with and without the adapter, SAM, MedSAM); its rows for other methods are here for comparison.

{chosen} Thin slices are kept to small clots; there is no beam hardening.
"both" holds tight and loose boxes together, two volumes a phantom. The design has {designed} phantoms; a row says how
many of them its method was scored on so far (`score` goes on where it was stopped).

The reference mask itself (voxels filled by half or more) has this bias and these limits: {mask}.
"""

_CHOSEN: dict[Part, str] = {
    "fitted": """The rules and constants of the edge were chosen on these phantoms' parenchymal blood of 5 mL and more
by the default method, and on those of a [second](second.md) and a [third seed](third.md): its figures there are those
of a fit. [Phantoms held out](held-out.md) are its test.""",
    "second": """These phantoms were held out until the edge was half height between core and ring alone: bias
+0.5 %, limits of -9.4 to +10.5 % by the default method with the edge. Since then the edge's rules and constants were
chosen on them, too, beside [the first](phantoms.md) and [the third](third.md): its figures are those of a fit.
[Phantoms held out](held-out.md) are its test.""",
    "third": """These phantoms were held out while the edge followed every pixel within 2 mm of the model's outline:
bias -2.1 %, limits of -14.1 to +9.8 % by the default method with the edge. Since then its rules and constants were
chosen on them, too, beside [the first](phantoms.md) and [the second](second.md): its figures are those of a fit.
[Phantoms held out](held-out.md) are its test.""",
    "held-out": """Nothing was chosen on these phantoms: they come from another seed than [those](phantoms.md),
[those](second.md) and [those](third.md) on which the rules and constants of the edge were. One seed was opened for it,
once.""",
}
#: What the files of a part are called: table and CSV, figure.
_FILES: dict[Part, tuple[str, str]] = {
    "fitted": ("phantoms", "bland-altman.png"),
    "second": ("second", "second.png"),
    "third": ("third", "third.png"),
    "held-out": ("held-out", "held-out.png"),
}


def write(docs: Path, rows: Sequence[Measured], *, part: Part = "fitted") -> str:
    """Write a part's document, CSV and figure (``_FILES``) into a folder; return the Markdown."""
    name, figure = _FILES[part]
    docs.mkdir(parents=True, exist_ok=True)
    with replacing(docs / f"{name}.csv") as temporary, temporary.open("w", newline="") as file:
        lines = record(rows)
        writer = csv.DictWriter(file, fieldnames=list(lines[0]), lineterminator="\n")
        writer.writeheader()
        for line in lines:
            writer.writerow({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in line.items()})
    names = {row.phantom for row in rows}
    kinds = [name.split("-")[1] for name in names]
    what = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    once = {row.phantom: row for row in rows}.values()
    own = np.array([one.mask_ml / one.true_ml - 1 for one in once if _is_main(one)])
    bias, spread = float(own.mean()), 1.96 * float(own.std(ddof=1))
    mask = f"{bias:+.1%}, {bias - spread:+.1%} to {bias + spread:+.1%}"
    text = _HEAD.format(
        option="" if part == "fitted" else f" --part {part}",
        chosen=_CHOSEN[part],
        count=len(names),
        what=what,
        mask=mask,
        designed=len(of_part(part)),
    )
    text += "\n".join(_sections(rows)) + f"\n\n![Bland-Altman plots]({figure})\n"
    write_whole(docs / f"{name}.md", text.encode())
    _draw(docs / figure, rows)
    return text


def write_errors(rows: Sequence[Measured], weights: Path) -> None:
    """Put each method's error on main phantoms, with the edge, beside its weights, for the page and the report."""
    for method in dict.fromkeys(row.method for row in rows):
        if not (weights / method / TRAINING_FILE).is_file() or not takes_edge(method):
            continue
        mine = [row for row in rows if row.method == method and row.edge and _is_main(row)]
        bias, low, high = agreement(mine)
        found = {
            "phantoms": len({row.phantom for row in mine}),
            "least_ml": LEAST_ML,
            "boxes_px": list(BOXES_PX.values()),
            **{"bias": round(bias, 4), "low": round(low, 4), "high": round(high, 4)},
        }
        content = json.dumps(found, indent=1) + "\n"
        write_whole(weights / method / PHANTOMS_FILE, content.encode())


def _is_main(row: Measured) -> bool:
    return row.kind in PARENCHYMAL and row.true_ml >= LEAST_ML


def _sections(rows: Sequence[Measured]) -> Iterable[str]:
    groups = {
        f"Parenchymal, {LEAST_ML:g} mL and more": [row for row in rows if _is_main(row)],
        f"Parenchymal, under {LEAST_ML:g} mL": [
            row for row in rows if row.kind in PARENCHYMAL and row.true_ml < LEAST_ML
        ],
        "Ventricular": [row for row in rows if row.kind == "ventricular"],
        "Subdural": [row for row in rows if row.kind == "subdural"],
    }
    for title, mine in groups.items():
        if not mine:
            continue
        yield f"\n## {title}\n"
        yield "| method | boxes | phantoms | bias | 95 % limits | Dice | bias with the edge | 95 % limits | Dice |"
        yield "|---|---|---|---|---|---|---|---|---|"
        for method in dict.fromkeys(row.method for row in mine):
            for boxes in (*BOXES_PX, "both"):
                yield _row(method, boxes, [row for row in mine if row.method == method])


def _row(method: str, boxes: str, rows: Sequence[Measured]) -> str:
    cells = [CATALOGUE[method].title, boxes]
    for edge in (False, True):
        mine = [row for row in rows if row.edge is edge and boxes in (row.boxes, "both")]
        if not edge:
            cells.append(str(len({row.phantom for row in mine})))
        if not mine:
            cells += ["", "", ""]
            continue
        bias, low, high = agreement(mine)
        dice = np.mean([row.dice for row in mine])
        limits = f"{low:+.1%} to {high:+.1%}" if len(mine) > 1 else ""
        cells += [f"{bias:+.1%}", limits, f"{dice:.3f}"]
    return "| " + " | ".join(cells) + " |"


def _draw(path: Path, rows: Sequence[Measured]) -> None:
    """Bland-Altman plots, a row for each method, without and with the edge: parenchymal blood, small ones included."""
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(row.method for row in rows))
    figure = Figure(figsize=(9, 2.4 * len(methods)), layout="constrained")
    axes = figure.subplots(len(methods), 2, squeeze=False, sharex=True)
    for line, method in zip(axes, methods, strict=True):
        for place, edge in zip(line, (False, True), strict=True):
            mine = [
                row
                for row in rows
                if row.method == method and row.edge is edge and row.kind in PARENCHYMAL
            ]
            for boxes, colour in (("tight", "#0072B2"), ("loose", "#E69F00")):
                here = [row for row in mine if row.boxes == boxes]
                mean_ml = [(row.true_ml + row.found_ml) / 2 for row in here]
                place.plot(
                    mean_ml,
                    [100 * row.difference for row in here],
                    "o",
                    markersize=3,
                    color=colour,
                    label=boxes,
                )
            if main := [row for row in mine if _is_main(row)]:
                for value, style in zip(agreement(main), ("-", "--", "--"), strict=True):
                    place.axhline(100 * value, color="0.3", linestyle=style, linewidth=0.8)
            place.set_xscale("log")
            place.set_ylim(-60, 60)
            place.set_title(
                f"{CATALOGUE[method].title}{', with the edge' if edge else ''}", fontsize=9
            )
    axes[0, 0].legend(frameon=False, fontsize=8)
    for place in axes[-1]:
        place.set_xlabel("mean of found and true, mL")
    for place in axes[:, 0]:
        place.set_ylabel("found less true, %")
    with replacing(path) as part:
        figure.savefig(part, dpi=110)
