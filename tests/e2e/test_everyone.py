"""The page for everyone: by keys, heard, in light and dark, by axe-core; one page for all of this file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

from tests.e2e.conftest import People, Server, visiting
from tests.e2e.driver import PATIENCE_MS, Viewer

BOX = (287, 172, 351, 294)

#: What the server says of the lane without a queue, and Gradio of a place in its own.
WAITING = {"people": 4, "seconds": 6.2}
IN_QUEUE = (
    'data: {"msg": "estimation", "event_id": "x", "rank": 2, "queue_size": 5, "rank_eta": 11.6}\n\n'
)

#: The same with its first progress.
AT_WORK = IN_QUEUE + "".join(
    f"data: {json.dumps(said)}\n\n"
    for said in (
        {"msg": "process_starts", "event_id": "x", "eta": None},
        {
            "msg": "process_generating",
            "event_id": "x",
            "output": {
                "data": [
                    {
                        "__type__": "update",
                        "props": {
                            "reply": {
                                "n": 1,
                                "done": None,
                                "progress": {
                                    "text": "Reading the scan",
                                    "part": None,
                                    "cancel": True,
                                },
                            }
                        },
                    }
                ],
                "is_generating": True,
            },
            "success": True,
        },
    )
)

#: The contrast of two colours as WCAG 2.2 has it, in the page's own pixels: they may be of any notation.
CONTRAST = """
const pixel = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const light = (colour) => {
  pixel.fillStyle = colour;
  pixel.fillRect(0, 0, 1, 1);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const [r, g, b] = [...pixel.getImageData(0, 0, 1, 1).data].map((v) => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (one, other) => {
  const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
"""


@pytest.fixture(scope="module")
def viewer(browser: Browser, server: Server) -> Iterator[Viewer]:
    """The sample with a box, and every drawer and panel open."""
    with visiting(People(browser), server.url) as open_page:
        opened = open_page().open_sample().draw(BOX)
        opened.press("e", "c", "d", "g", "l").settle()
        opened.page.wait_for_selector(".ich-measures table", timeout=PATIENCE_MS)
        opened.page.wait_for_selector(".ich-scores table", timeout=PATIENCE_MS)
        yield opened


@pytest.fixture(params=["light", "dark"])
def scheme(viewer: Viewer, request: pytest.FixtureRequest) -> Iterator[str]:
    """Gradio says on the body which it is."""
    viewer.page.evaluate(f"document.body.classList.toggle('dark', {request.param == 'dark':d})")
    yield request.param
    viewer.page.evaluate("document.body.classList.remove('dark')")


def serious(page: Page, root: Path) -> list[str]:
    """What axe-core finds of those kinds, a line each."""
    script = root / "node_modules" / "axe-core" / "axe.min.js"
    if not script.is_file():
        pytest.skip("axe-core is not here; npm ci brings it")
    if not page.evaluate("'axe' in window"):
        page.add_script_tag(path=script)
    found: list[dict[str, Any]] = page.evaluate(
        "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations)"
    )
    return [
        f"{rule['id']}: {node['target']}"
        for rule in found
        for node in rule["nodes"]
        if rule["impact"] in ("serious", "critical")
    ]


def test_axe_finds_nothing_serious(viewer: Viewer, scheme: str, root: Path) -> None:
    assert serious(viewer.page, root) == []
    viewer.do("help")
    assert serious(viewer.page, root) == []
    viewer.press("Escape")


def test_pressed_buttons_differ(viewer: Viewer, scheme: str) -> None:
    """From those that are not by 3:1 (WCAG 2.2, 1.4.11), and from their own text by 4.5:1; only buttons are pressed."""
    found = viewer.page.evaluate(
        CONTRAST
        + """[...document.querySelectorAll('[aria-pressed=true], [aria-expanded=true]')].map((e) => {
          const own = getComputedStyle(e), calm = getComputedStyle(document.querySelector('[data-do=zoom_fit]'));
          const ground = own.backgroundColor;
          return [e.tagName, contrast(ground, calm.backgroundColor), contrast(ground, own.color)];
        })"""
    )
    assert len(found) > 10 and {tag for tag, _, _ in found} == {"BUTTON"}
    assert min(ground for _, ground, _ in found) >= 3 and min(text for *_, text in found) >= 4.5
    assert viewer.page.locator("[aria-pressed]:not(button)").count() == 0


def test_headings_make_an_outline(viewer: Viewer) -> None:
    headings = viewer.page.get_by_role("heading")
    levels = [int(name[1]) for name in headings.evaluate_all("all => all.map((e) => e.tagName)")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    texts = headings.all_text_contents()
    for part in ("Slices", "Lesions", "Comparison", "Measurement", "Follow-up"):
        assert part in texts


def test_keys_that_scroll_are_the_viewers_only_while_it_has_the_focus(viewer: Viewer) -> None:
    page, k = viewer.page, viewer.slice
    for place in (
        "[data-do=fill]",
        ".ich-bedside summary",
        ".ich-measures",
        ".ich-lesion-list [type=radio]",
    ):
        page.locator(place).first.focus()
        viewer.press("PageDown", "End", "ArrowRight", "ArrowDown", "PageUp", "Home")
        assert viewer.slice == k, place
    page.focus(".ich-bedside summary")
    viewer.press(" ")
    assert page.locator(".ich-bedside[open]").count() == 1  # Space is the summary's
    page.evaluate("window.scrollTo(0, 0)")
    page.focus(".ich-measures")
    viewer.press("End")
    page.wait_for_function("window.scrollY > 0")  # and the page scrolls
    page.evaluate("window.scrollTo(0, 0)")

    # By pointer the focus stays with the viewer, and so do the keys.
    page.locator(".ich-stage canvas").first.focus()
    viewer.do("fill").do("outline").press("PageDown", "ArrowUp")
    assert viewer.slice == k + 4
    viewer.press("Home", "End").go_to(k)
    page.focus(".ich-slider")
    viewer.press("ArrowRight")
    assert viewer.slice == k + 1
    viewer.go_to(k)


def test_slices_results_and_stops_are_heard(viewer: Viewer) -> None:
    page = viewer.page
    heard = page.locator(".ich > [role=status]")
    k, depth = viewer.slice, viewer.shape_zyx[0]
    viewer.go_to(k + 1)
    assert heard.inner_text() == f"Slice {k + 2} of {depth}."
    viewer.go_to(k)
    assert heard.inner_text() == f"Slice {k + 1} of {depth}: {viewer.ml(0)[0]:.2f} mL here."
    viewer.do("propagate").settle()
    said = heard.inner_text()
    assert f"{viewer.ml(0)[1]:.1f} in total" in said and page.inner_text(".ich-stops") in said
    assert "Stopped above slice" in said
    viewer.do("undo").settle().go_to(k)  # undo goes where it changes something


def test_an_outline_has_the_colour_of_its_lesion_in_the_list(viewer: Viewer) -> None:
    page = viewer.page
    page.mouse.move(5, 5)
    colour = page.eval_on_selector(
        ".ich-lesion-list .ich-swatch", "e => getComputedStyle(e).backgroundColor"
    )
    assert colour == page.eval_on_selector(
        "[data-do=lesions] .ich-swatch", "e => getComputedStyle(e).backgroundColor"
    )
    orange = tuple(map(int, colour[4:-1].split(",")))
    for pane in (0, 1):
        shown = page.evaluate(
            """([pane, [r, g, b]]) => {
              const canvas = document.querySelectorAll('.ich-stage canvas')[pane];
              const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
              let count = 0;
              const near = (i) => Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 24;
              for (let i = 0; i < data.length; i += 4) count += near(i);
              return count;
            }""",
            [pane, orange],
        )
        assert shown > 20
    own = page.eval_on_selector_all(
        ".ich-total output", "all => all.map((e) => getComputedStyle(e).color)"
    )
    assert len({*own, colour}) == 3


@pytest.mark.parametrize("size", [(1440, 900), (1024, 768)], ids=str)
def test_the_slice_keeps_its_share_with_both_drawers_open(
    viewer: Viewer, size: tuple[int, int]
) -> None:
    page = viewer.page
    page.set_viewport_size({"width": size[0], "height": size[1]})
    assert page.locator("#ich-lesions").is_visible() and page.locator("#ich-correct").is_visible()
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(100)
    _, top, _, height = viewer.frame(0)
    assert min(top + height, size[1]) - top >= 0.6 * size[1] - 1
    page.set_viewport_size({"width": 1440, "height": 900})


def draw_another(viewer: Viewer) -> Viewer:
    """Draw a second box, without waiting, wherever the page was scrolled to."""
    viewer.page.evaluate("window.scrollTo(0, 0)")
    return viewer.draw((100, 100, 140, 140), wait=False)


def test_who_leaves_is_asked_only_where_something_is_unsaved(
    viewer: Viewer, tmp_path: Path
) -> None:
    asks = "!window.dispatchEvent(new Event('beforeunload', { cancelable: true }))"
    assert viewer.page.evaluate(asks)
    viewer.download("table", tmp_path)  # holds no mark
    assert viewer.answered().page.evaluate(asks)
    viewer.download("record", tmp_path)
    assert not viewer.answered().page.evaluate(asks)
    draw_another(viewer).settle()
    assert viewer.page.evaluate(asks)
    viewer.do("undo").settle()
    assert not viewer.page.evaluate(asks)  # it is as it was saved


def test_who_waits_while_others_do_is_told(viewer: Viewer) -> None:
    page = viewer.page
    held: list[Route] = []
    page.route("**/gradio_api/run/**", lambda route: held.append(route))
    page.route("**/gradio_api/waiting", lambda route: route.fulfill(json=WAITING))
    draw_another(viewer)
    page.get_by_text("3 others wait as well, about 6 s").first.wait_for()
    page.unroute("**/gradio_api/run/**")
    for route in held:
        route.continue_()
    viewer.settle()
    assert page.get_by_text("others wait").locator("visible=true").count() == 0
    viewer.do("undo").settle()


@pytest.mark.parametrize(
    ("told", "shown"),
    [(IN_QUEUE, "you are number 3 in the queue, about 12 s"), (AT_WORK, "Reading the scan")],
    ids=["in the queue", "at work"],
)
def test_what_is_under_way_says_its_place_spares_open_and_goes_with_its_server(
    browser: Browser, server: Server, told: str, shown: str
) -> None:
    """Also where it has begun to tell of its progress: a server may go in the middle."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    viewer = Viewer(page, server.url)
    streams: list[Route] = []

    def stream(route: Route) -> None:
        streams.append(route)
        if len(streams) == 1:  # what comes after says nothing, as a server that is gone
            route.fulfill(body=told, content_type="text/event-stream")

    page.route("**/gradio_api/queue/join*", lambda route: route.fulfill(json={"event_id": "x"}))
    page.route("**/gradio_api/queue/data*", stream)
    viewer.do("sample")
    overlay = page.locator(".ich-busy")
    overlay.get_by_text(shown).wait_for()
    for name in ("open", "sample"):
        box = page.locator(f"[data-do={name}]").locator("visible=true").bounding_box()
        assert box
        at = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
        found = "([x, y]) => document.elementFromPoint(x, y).closest('button')?.dataset.do"
        assert page.evaluate(found, at) == name
    page.route("**/gradio_api/app_id*", lambda route: route.abort())
    overlay.wait_for(state="hidden", timeout=10_000)
    context.close()


def test_one_pane_alone_is_remembered(viewer: Viewer) -> None:
    page = viewer.page
    panes = page.locator(".ich-pane").locator("visible=true")
    width = viewer.frame(0)[2]
    page.locator(".ich-stage canvas").first.focus()
    viewer.press("p")
    assert panes.count() == 1 and viewer.frame(0)[2] > 1.9 * width
    viewer.do("show_two").settle()  # who asks for two gets two
    assert panes.count() == 2
    viewer.do("single")
    assert page.get_by_role("button", name="One pane", pressed=True).count() == 1
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    page.wait_for_selector(".ich[data-live]")
    viewer.open_sample()
    assert panes.count() == 1
    viewer.do("single")
    assert panes.count() == 2


def test_help_opens_at_its_top(viewer: Viewer) -> None:
    page = viewer.page
    page.set_viewport_size({"width": 390, "height": 500})
    viewer.press("?")
    assert page.evaluate("document.querySelector('.ich-help').scrollTop") == 0
    assert page.evaluate("document.activeElement.textContent") == "Help"
    viewer.press("End")
    page.wait_for_function("document.querySelector('.ich-help').scrollTop > 0")
    viewer.press("Escape")
