"""How the report is set: its page, fonts, colours, texts and tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import reportlab
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Paragraph, Table

from ichseg import NOTICE

MARGIN = 16 * mm
WIDTH = A4[0] - 2 * MARGIN
FRAME_PADDING = 6  # reportlab's own, inside its margins
INK, GREY, RULE, PALE, WARN = (
    HexColor(code) for code in ("#1d2329", "#66707a", "#d4d9de", "#f3f5f7", "#fbdcc4")
)
FONT, BOLD = "ichseg-sans", "ichseg-sans-bold"

NO_PADDING = [
    (f"{side}PADDING", (0, 0), (-1, -1), 0) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")
]


def load_fonts() -> None:
    """Bitstream Vera, which reportlab brings: it has ², ±, × and the signs of Western names, and is embedded."""
    folder = Path(reportlab.__file__).parent / "fonts"
    if FONT not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(TTFont(FONT, folder / "Vera.ttf"))
        pdfmetrics.registerFont(TTFont(BOLD, folder / "VeraBd.ttf"))
        pdfmetrics.registerFontFamily(FONT, normal=FONT, bold=BOLD, italic=FONT, boldItalic=BOLD)


def printable(text: str) -> str:
    """Text as it is, for a paragraph; what the font has no sign for is a question mark."""
    signs = pdfmetrics.getFont(FONT).face.charToGlyph
    return escape("".join(sign if ord(sign) in signs else "?" for sign in text))


def text_of(
    text: str, *, size: float = 7.6, bold: bool = False, grey: bool = False, right: bool = False
) -> Paragraph:
    """A paragraph of text as it is."""
    return rich(printable(text), size=size, bold=bold, grey=grey, right=right)


def rich(
    markup: str, *, size: float = 7.6, bold: bool = False, grey: bool = False, right: bool = False
) -> Paragraph:
    """A paragraph of reportlab's markup."""
    style = ParagraphStyle(
        "text",
        fontName=BOLD if bold else FONT,
        fontSize=size,
        leading=size * 1.38,
        textColor=GREY if grey else INK,
        alignment=2 if right else 0,
        splitLongWords=1,
    )
    return Paragraph(markup, style)


def heading(text: str) -> Flowable:
    """The heading of a part."""
    return Table(
        [[text_of(text, size=9, bold=True)]],
        colWidths=[WIDTH],
        style=[*NO_PADDING, ("BOTTOMPADDING", (0, 0), (-1, -1), 3)],
    )


def ruled(rows: list[list[Flowable]], widths: Sequence[float], bars: Sequence[str] = ()) -> Table:
    """A table with a line under each row; ``bars`` are colours at the left of the rows below the head."""
    style: list[tuple[Any, ...]] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("VALIGN", (0, 0), (-1, 0), "BOTTOM"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.5, RULE),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("LEFTPADDING", (0, 1), (0, -1), 8 if bars else 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 5),
        ("TOPPADDING", (0, 0), (-1, -1), 3),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
        *(("LINEBEFORE", (0, at), (0, at), 4, HexColor(bar)) for at, bar in enumerate(bars, 1)),
    ]
    return Table(rows, colWidths=list(widths), style=style, repeatRows=1)


class NumberedCanvas(Canvas):  # type: ignore[misc]
    """Writes the notice and "page n of m" on each page, once it is known how many there are."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pages: list[dict[str, Any]] = []

    def showPage(self) -> None:
        self._pages.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for number, page in enumerate(self._pages, 1):
            self.__dict__.update(page)
            self.setFont(FONT, 6.8)
            self.setFillColor(GREY)
            self.drawString(MARGIN, 10 * mm, f"{NOTICE}  No patient data.")
            self.drawRightString(A4[0] - MARGIN, 10 * mm, f"Page {number} of {len(self._pages)}")
            super().showPage()
        super().save()


def band(text: Flowable, colour: HexColor) -> Flowable:
    """A text on a band of colour."""
    style = [("BACKGROUND", (0, 0), (-1, -1), colour), ("PADDING", (0, 0), (-1, -1), 5)]
    return Table([[text]], colWidths=[WIDTH], style=style)
