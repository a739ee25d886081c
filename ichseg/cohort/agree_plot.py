"""The differences of two raters' volumes against their means, with the limits of agreement (Bland and Altman 1999)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from ichseg import NOTICE
from ichseg.cohort.agree import Summary
from ichseg.errors import InputError
from ichseg.marks.lesion import PALETTE


def bland_altman_png(
    rows: Sequence[Mapping[str, Any]], found: Sequence[Summary], names: tuple[str, str]
) -> bytes:
    """A plot for each kind of lesion, as PNG.

    Args:
        rows: of ``agree.agreement_rows``.
        found: their ``agree.summaries``.
        names: what the two raters are called.

    Raises:
        InputError: matplotlib is not installed.

    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            "The plot of agreement is drawn by matplotlib, which is not installed; pip install 'ichseg[agree]', or "
            "leave --out out."
        ) from error
    figure = Figure(figsize=(5.2 * len(found), 4.4), layout="constrained")
    for place, (one, axes) in enumerate(
        zip(found, figure.subplots(1, len(found), squeeze=False)[0], strict=True)
    ):
        mine = [
            row for row in rows if row.get("lesion") == one.lesion and (row["a_ml"] or row["b_ml"])
        ]
        axes.scatter(
            [row["mean_ml"] for row in mine],
            [row["difference_ml"] for row in mine],
            s=26,
            color=PALETTE[place % len(PALETTE)],
            edgecolor="black",
            linewidth=0.5,
        )
        for value, half, style in (
            (one.bias_ml, one.bias_ci_ml, "-"),
            (one.low_ml, one.limits_ci_ml, "--"),
            (one.high_ml, one.limits_ci_ml, "--"),
        ):
            if value is None:
                continue
            axes.axhline(value, color="black", linestyle=style, linewidth=1)
            if half is not None:
                axes.axhspan(value - half, value + half, color="black", alpha=0.08, linewidth=0)
            axes.annotate(
                f"{value:+.1f}",
                (1.0, value),
                xycoords=("axes fraction", "data"),
                xytext=(-4, 3),
                textcoords="offset points",
                ha="right",
            )
        axes.set_title(f"{one.lesion}, {one.pairs} pairs")
        axes.set_xlabel("mean of both, mL")
        axes.set_ylabel(f"{names[1]} less {names[0]}, mL")
    figure.supxlabel(NOTICE, fontsize=7, x=0.01, ha="left", color="#555555")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130, metadata={"Disclaimer": NOTICE})
    return content.getvalue()
