"""How many people wait, and for how long they did: what the page says where there is no queue."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.testclient import TestClient

from ichseg.page.waiting import REMEMBERED, Waiting


def test_people_are_counted_while_they_wait_and_the_middle_of_slow_answers_is_told() -> None:
    now = 100.0
    waiting = Waiting(clock=lambda: now)
    assert waiting.said() == {"people": 0, "seconds": None}
    with waiting.answering(), waiting.answering():
        assert waiting.said()["people"] == 2
        now += 0.5  # at once: nobody waited for that
    assert waiting.said() == {"people": 0, "seconds": None}
    for seconds in (2.0, 9.0, 4.04):
        with waiting.answering():
            now += seconds
    assert waiting.said() == {"people": 0, "seconds": 4.0}
    for _ in range(REMEMBERED):
        with waiting.answering():
            now += 3.0
    assert waiting.said()["seconds"] == 3.0  # what was long ago is forgotten


def test_an_answer_that_fails_is_waited_for_no_longer() -> None:
    waiting = Waiting()
    try:
        with waiting.answering():
            raise ValueError
    except ValueError:
        pass
    assert waiting.said()["people"] == 0


def test_the_page_can_ask() -> None:
    waiting = Waiting()
    client = TestClient(Starlette(routes=[waiting.route()]))
    with waiting.answering():
        answer = client.get("/gradio_api/waiting")
    assert answer.json() == {"people": 1, "seconds": None}
    assert answer.headers["cache-control"] == "no-store"
