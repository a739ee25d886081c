"""Volume against time as a drawing: for the report, and as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from xml.sax.saxutils import escape

from reportlab.graphics import renderSVG
from reportlab.graphics.shapes import (
    Circle,
    Drawing,
    Group,
    Line,
    Polygon,
    PolyLine,
    Rect,
    Shape,
    String,
)
from reportlab.lib.colors import Color, HexColor, white

from ichseg import NOTICE
from ichseg.errors import InputError
from ichseg.files.report_style import GREY, INK, RULE
from ichseg.measures.timeline import ONE_SCAN, Timeline, TimePoint, VolumeLine

#: Steps between the marks of the axis of hours, the first with which there are at most MOST_MARKS of them.
_HOURS = (0.25, 0.5, 1, 2, 3, 6, 12, 24, 48, 72, 168, 336, 720, 2160, 8760)
_MOST_MARKS = 8
_SIZE, _SMALL = 7.5, 6.8
_BAND = Color(0.4, 0.44, 0.48, alpha=0.16)
#: How many lines are drawn at most; the rest are in the tables.
MOST_LINES = 8


def timeline_svg(found: Timeline | None) -> bytes:
    """A timeline as SVG in UTF-8 (``timeline_drawing``), on white. Raises InputError where there is none."""
    if found is None:
        raise InputError(ONE_SCAN)
    width, height = 620, 300
    drawing = Drawing(width, height)
    drawing.add(Rect(0, 0, width, height, fillColor=white, strokeColor=None))
    drawing.add(timeline_drawing(found, width, height, font="Helvetica").asGroup())
    notice = {"fontName": "Helvetica", "fontSize": _SMALL, "fillColor": GREY, "textAnchor": "end"}
    drawing.add(String(width - 6, 5, NOTICE, **notice))
    text: str = renderSVG.drawToString(drawing)
    text = text.replace("font-family: Helvetica;", "font-family: Helvetica, Arial, sans-serif;")
    named = f"<title>Volume against time</title><desc>{escape(_in_words(found))}</desc>"
    start, end = text.index("<title>"), text.index("</desc>") + len("</desc>")
    return (text[:start] + named + text[end:]).encode()


def timeline_drawing(found: Timeline, width: float, height: float, *, font: str) -> Drawing:
    """A timeline as a drawing of ``width`` x ``height`` points, in a font that reportlab knows.

    Each line has its lesion's colour, that of the whole is dark and has its millilitres written on. The grey band is
    what two people's volumes by hand cannot tell from the baseline of the whole, or of the only lesion. Bars are the
    model's mean error, where it is known which model made all masks. Where the hours of a scan are not known, the scans
    stand at equal distances.
    """
    return _Plot(found, width, height, font).drawing


class _Plot:
    """The parts of one drawing."""

    def __init__(self, found: Timeline, width: float, height: float, font: str) -> None:
        self.found, self.font = found, font
        self.whole = found.lines[-1]
        self.lines = (self.whole, *found.lines[:-1][: MOST_LINES - 1])
        self.left, self.bottom = 30.0, 32.0
        self.width, self.height = width - self.left - 165, height - self.bottom - 20
        self.timed = all(hours is not None for hours in found.hours)
        self.error = found.model_error
        self.top_ml, self.step_ml = self._scale()
        self.drawing = Drawing(width, height)
        for part in (self._axes(), self._band(), *map(self._line, self.lines), self._legend()):
            self.drawing.add(part)

    def _scale(self) -> tuple[float, float]:
        """The largest volume that is drawn in mL, and the step between the marks."""
        high = [point.ml + self._bar_ml(point) for line in self.lines for point in line.points]
        high += [point.ml for point in self._edge(1)]
        step = _step(max(high))
        return step * max(1, math.ceil(max(high) / step)), step

    def _x(self, point: TimePoint) -> float:
        last = self._position(self.whole.points[-1])
        return self.left + 10 + (self.width - 22) * self._position(point) / last

    def _position(self, point: TimePoint) -> float:
        return float(point.hours) if self.timed and point.hours is not None else point.scan - 1.0

    def _y(self, ml: float) -> float:
        return self.bottom + self.height * ml / self.top_ml

    def _bar_ml(self, point: TimePoint) -> float:
        return 0.0 if self.error is None else point.ml * self.error.mean_percent / 100

    def _text(
        self, x: float, y: float, text: str, anchor: str = "start", **style: object
    ) -> String:
        given = {"fontName": self.font, "fontSize": _SIZE, "fillColor": GREY} | style
        return String(x, y, text, textAnchor=anchor, **given)

    def _axes(self) -> Group:
        parts: list[Shape] = []
        right = self.left + self.width
        for at in range(round(self.top_ml / self.step_ml) + 1):
            y = self._y(at * self.step_ml)
            parts.append(Line(self.left, y, right, y, strokeColor=RULE, strokeWidth=0.5))
            parts.append(self._text(self.left - 5, y - 2.5, f"{at * self.step_ml:g}", "end"))
        points = self.whole.points
        first, last = self._x(points[0]), self._x(points[-1])
        end = self._position(points[-1])
        steps = _HOURS if self.timed else (1.0,)
        step = next((one for one in steps if end / one <= _MOST_MARKS), steps[-1])
        for at in range(int(end / step + 1e-9) + 1):
            x = first + (last - first) * at * step / end
            parts.append(
                Line(x, self.bottom, x, self.bottom - 3, strokeColor=GREY, strokeWidth=0.5)
            )
            mark = f"{at * step:g}" if self.timed else str(at + 1)
            parts.append(self._text(x, self.bottom - 11, mark, "middle"))
        below = "Hours since the baseline" if self.timed else "Scan (not all hours are known)"
        parts.append(self._text((first + last) / 2, self.bottom - 21, below, "middle"))
        parts.append(self._text(4, self.bottom + self.height + 9, "Volume, mL"))
        return Group(*parts)

    def _edge(self, sign: int) -> list[TimePoint]:
        """The upper or lower edge of the band of readers' error, at each scan."""
        first, *later = self.whole.points
        errors = [one.between_raters_ml for one in self.found.reading_errors]
        return [
            TimePoint(point.scan, point.hours, max(0.0, first.ml + sign * error))
            for point, error in zip((first, *later), (errors[0], *errors), strict=True)
        ]

    def _band(self) -> Polygon:
        around = [*self._edge(1), *reversed(self._edge(-1))]
        places = [value for point in around for value in (self._x(point), self._y(point.ml))]
        return Polygon(places, fillColor=_BAND, strokeColor=None)

    def _colour(self, line: VolumeLine) -> Color:
        return INK if line.lesion is None else HexColor(line.lesion.colour)

    def _line(self, line: VolumeLine) -> Group:
        colour, whole = self._colour(line), line is self.whole
        places = [(self._x(point), self._y(point.ml)) for point in line.points]
        ways = [value for place in places for value in place]
        parts: list[Shape] = [PolyLine(ways, strokeColor=colour, strokeWidth=2.2 if whole else 1.1)]
        for point, (x, y) in zip(line.points, places, strict=True):
            bar = self._bar_ml(point)
            low, high = self._y(point.ml - bar), self._y(point.ml + bar)
            if bar:
                parts += [
                    Line(x, low, x, high, strokeColor=colour, strokeWidth=0.7),
                    *(
                        Line(x - 2.5, end, x + 2.5, end, strokeColor=colour, strokeWidth=0.7)
                        for end in (low, high)
                    ),
                ]
            parts.append(Circle(x, y, 2.2, fillColor=colour, strokeColor=None))
            if whole:
                parts.append(self._text(x, high + 4, f"{point.ml:.1f}", "middle", fillColor=INK))
        return Group(*parts)

    def _legend(self) -> Group:
        errors = {one.between_raters_ml for one in self.found.reading_errors}
        readers = " to ".join(f"{ml:g}" for ml in sorted(errors))
        hidden = len(self.found.lines) - len(self.lines)
        rows: list[tuple[Callable[[float, float], list[Shape]], str]] = [
            *(
                (partial(_dash, self._colour(line)), _short(self.found.title_of(line)))
                for line in self.lines
            ),
            *([(_nothing, f"{hidden} more in the tables")] if hidden else []),
            (_patch, f"within readers' error, ± {readers} mL"),
        ]
        if self.error is not None:
            rows.append((_bar, f"model's mean error, ± {self.error.mean_percent:.0f} %"))
        x, y = self.left + self.width + 14, self.bottom + self.height - 6
        parts: list[Shape] = []
        for at, (sign, text) in enumerate(rows):
            low = y - 12 * at
            parts += [*sign(x, low + 2.5), self._text(x + 18, low, text, fillColor=INK)]
        return Group(*parts)


def _dash(colour: Color, x: float, y: float) -> list[Shape]:
    return [
        Line(x, y, x + 13, y, strokeColor=colour, strokeWidth=1.5),
        Circle(x + 6.5, y, 2.2, fillColor=colour, strokeColor=None),
    ]


def _patch(x: float, y: float) -> list[Shape]:
    return [Rect(x, y - 4, 13, 8, fillColor=_BAND, strokeColor=None)]


def _bar(x: float, y: float) -> list[Shape]:
    return [Line(x + 6.5, y - 4, x + 6.5, y + 4, strokeColor=INK, strokeWidth=0.7)]


def _nothing(x: float, y: float) -> list[Shape]:
    return []


def _short(text: str, most: int = 34) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _step(high: float) -> float:
    """The least of 1, 2, 5, 10, 20, ... times a power of ten that divides 0 to ``high`` into at most 5.

    >>> _step(28), _step(5), _step(0)
    (10.0, 1.0, 1.0)
    """
    if high <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(high / 5))
    return next(step * power for step in (1, 2, 5, 10) if 5 * step * power >= high)


def _in_words(found: Timeline) -> str:
    """The plot for who does not see it."""
    return " ".join(
        f"{found.title_of(line)}: "
        + ", ".join(
            (f"scan {point.scan}" if point.hours is None else f"{point.hours:g} h")
            + f" {point.ml:.1f} mL"
            for point in line.points
        )
        + "."
        for line in found.lines
    )
