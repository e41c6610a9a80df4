"""What the page says and offers when an answer does not come."""

import dataclasses

import pytest
from playwright.sync_api import Route, expect

from adapters.prompts import Message
from serving.errors import DeadlineExceededError, EngineBusyError, InvalidRequestError
from tests.app.page_in_chromium.conftest import Visitor
from tests.app.page_in_chromium.engine import TERSE, GapEngine
from tests.fakes import READY

pytestmark = pytest.mark.slow

QUESTION = "What is rate limiting?"


def test_a_full_queue_says_when_to_come_back_and_opens_the_button_then(
    visitor: Visitor, engine: GapEngine
):
    engine.script.append(EngineBusyError("32 requests are waiting already.", 2))
    visitor.ask_and_wait(QUESTION)

    problem = visitor.page.get_by_role("group", name="Problem")
    expect(problem).to_contain_text("32 requests are waiting already.")
    expect(problem.get_by_role("button", name="Try again in")).to_be_disabled()
    visitor.button("Try again").click()  # waits until the countdown is over
    expect(visitor.words).to_have_text(TERSE)
    visitor.wait()
    assert [request.messages for request in engine.requests] == 2 * [(Message("user", QUESTION),)]
    visitor.expects("503")


def test_an_answer_that_fails_on_its_way_keeps_its_words(visitor: Visitor, engine: GapEngine):
    failed = engine.handle(DeadlineExceededError("The time is over."), "It caps how")
    engine.script.append(failed)
    visitor.ask_and_wait(QUESTION)

    expect(visitor.words).to_have_text("It caps how")
    expect(visitor.page.get_by_role("group", name="Problem")).to_contain_text("The time is over.")
    visitor.button("Try again").click()
    expect(visitor.words).to_have_text(TERSE)


def test_a_failed_turn_is_left_out_of_what_follows(visitor: Visitor, engine: GapEngine):
    engine.script.append(engine.handle(DeadlineExceededError("The time is over."), "It caps how"))
    visitor.ask_and_wait(QUESTION)
    visitor.ask_and_wait("And why?")

    assert engine.requests[-1].messages == (Message("user", "And why?"),)


def test_a_connection_that_breaks_off_is_told(visitor: Visitor):
    def cut(route: Route) -> None:
        body = 'data: {"delta": "It caps"}\n\n'
        route.fulfill(body=body, content_type="text/event-stream")

    visitor.page.route("**/generate", cut)
    visitor.ask_and_wait(QUESTION)

    expect(visitor.words).to_have_text("It caps")
    expect(visitor.page.get_by_role("group", name="Problem")).to_contain_text("before the answer")


def test_a_server_that_is_gone_is_noticed_and_found_again(visitor: Visitor):
    visitor.page.context.set_offline(True)
    visitor.ask_and_wait(QUESTION)

    problem = visitor.page.get_by_role("group", name="Problem")
    expect(problem).to_contain_text("cannot be reached")
    expect(visitor.page.locator("#banner")).to_contain_text("cannot be reached")
    visitor.page.context.set_offline(False)
    # without a click: the page asks again by itself
    expect(visitor.page.locator("#banner")).to_be_hidden()
    visitor.button("Try again").click()
    expect(visitor.words).to_have_text(TERSE)
    visitor.expects("ERR_INTERNET_DISCONNECTED")


def test_a_loading_model_is_announced_until_it_is_ready(visitor: Visitor, engine: GapEngine):
    engine.snapshot = dataclasses.replace(READY, state="loading", detail="The model is loading.")
    visitor.page.reload()

    expect(visitor.page.locator("#banner")).to_contain_text("The model is loading.")
    engine.snapshot = READY
    expect(visitor.page.locator("#banner")).to_be_hidden()
    visitor.expects("503")


def test_a_conversation_that_got_too_long_can_go_on_without_its_beginning(
    visitor: Visitor, engine: GapEngine
):
    visitor.ask_and_wait(QUESTION)
    engine.script.append(InvalidRequestError("prompt", "Has 1200 tokens; at most 1024 fit."))
    visitor.ask_and_wait("And why?")
    expect(visitor.page.get_by_role("group", name="Problem")).to_contain_text("at most 1024 fit")
    visitor.button("Ask without the earlier turns").click()
    expect(visitor.words).to_have_text([TERSE, TERSE])
    visitor.wait()
    visitor.ask_and_wait("And then?")

    expect(visitor.page.get_by_text("Earlier turns are left out")).to_be_visible()
    assert engine.requests[-2].messages == (Message("user", "And why?"),)
    assert [message.content for message in engine.requests[-1].messages] == [
        "And why?",
        TERSE,
        "And then?",
    ]
    visitor.expects("422")


def test_a_server_that_wants_a_key_gets_the_one_that_was_entered(visitor: Visitor):
    keys: list[str | None] = []

    def check(route: Route) -> None:
        keys.append(route.request.headers.get("authorization"))
        if keys[-1] == "Bearer open sesame":
            route.continue_()
        else:
            route.fulfill(status=401, json={"title": "Unauthorized", "detail": "Send a key."})

    visitor.page.route("**/generate", check)
    visitor.ask_and_wait(QUESTION)
    expect(visitor.page.get_by_role("group", name="Problem")).to_contain_text("Send a key.")
    visitor.button("Enter an API key").click()
    expect(visitor.page.get_by_label("API key")).to_be_focused()
    visitor.page.keyboard.type("open sesame")
    visitor.page.keyboard.press("Enter")
    visitor.button("Try again").click()

    expect(visitor.words).to_have_text(TERSE)
    assert keys == [None, "Bearer open sesame"]
    visitor.expects("401")
