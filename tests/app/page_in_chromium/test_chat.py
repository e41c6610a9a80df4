"""Asking on the page: streaming, stopping, styles, side by side, editing, settings."""

import re

import pytest
from playwright.sync_api import expect

from adapters.prompts import Message
from tests.app.page_in_chromium.conftest import Visitor
from tests.app.page_in_chromium.engine import TERSE, GapEngine

pytestmark = pytest.mark.slow

QUESTION = "What is rate limiting?"


def test_an_answer_appears_while_it_is_being_generated(visitor: Visitor, engine: GapEngine):
    engine.open.clear()
    visitor.ask(QUESTION)

    expect(visitor.words).to_have_text("It caps how")
    expect(visitor.answers).to_have_attribute("aria-busy", "true")
    engine.open.set()
    expect(visitor.words).to_have_text(TERSE)
    visitor.wait()
    # 13 words in the half second that the engine says it took
    expect(visitor.page.locator(".figures")).to_have_text("13 tokens · 26 tokens/s · 0.50 s")
    assert engine.requests[0].messages == (Message("user", QUESTION),)


def test_shift_and_enter_start_a_line_and_enter_alone_sends(visitor: Visitor, engine: GapEngine):
    visitor.field.fill("one")
    visitor.field.press("Shift+Enter")
    visitor.field.press_sequentially("two")
    assert engine.requests == []
    visitor.field.press("Enter")

    expect(visitor.page.locator(".question-text")).to_have_text("one\ntwo")
    visitor.wait()
    assert engine.requests[0].messages[0].content == "one\ntwo"
    expect(visitor.field).to_have_value("")


@pytest.mark.parametrize("way", ["button", "Escape"])
def test_stopping_keeps_what_came_and_frees_the_engine(
    visitor: Visitor, engine: GapEngine, way: str
):
    engine.open.clear()
    visitor.ask(QUESTION)
    expect(visitor.words).to_have_text("It caps how")
    if way == "button":
        visitor.button("Stop").click()
    else:
        visitor.page.keyboard.press(way)

    expect(visitor.page.get_by_text("Stopped.")).to_be_visible()
    visitor.wait()
    expect(visitor.words).to_have_text("It caps how")
    handle = engine.handles[0]
    assert handle.given_up.wait(10)
    assert handle.num_given == 3


def test_the_switch_has_the_styles_of_the_server_and_remembers_the_choice(
    visitor: Visitor, engine: GapEngine
):
    names = visitor.page.get_by_role("radio").evaluate_all("all => all.map(one => one.value)")
    assert names == ["terse", "verbose", "*"]
    expect(visitor.page.get_by_role("radio", name="Terse")).to_be_checked()

    visitor.choose("Verbose")
    visitor.ask_and_wait(QUESTION)
    visitor.come()
    expect(visitor.page.get_by_role("radio", name="Verbose")).to_be_checked()
    visitor.ask_and_wait(QUESTION)

    assert [request.style for request in engine.requests] == ["verbose", "verbose"]


def test_side_by_side_answers_in_every_style_at_once(visitor: Visitor, engine: GapEngine):
    visitor.choose("Side by side")
    engine.open.clear()
    visitor.ask(QUESTION)
    # both are on their way at the same time
    expect(visitor.words).to_have_text(["It caps how", re.compile("Rate limiting caps")])
    engine.open.set()
    visitor.wait()

    expect(visitor.page.locator(".answer-style")).to_have_text(["Terse", "Verbose"])
    left, right = (visitor.answers.nth(index).bounding_box() for index in (0, 1))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    bars = visitor.page.locator(".length").evaluate_all(
        "all => all.map(bar => parseFloat(bar.style.getPropertyValue('--share')))"
    )
    assert 0 < bars[0] < bars[1] == 100
    assert {request.style for request in engine.requests} == {"terse", "verbose"}


def test_each_column_remembers_its_own_answers(visitor: Visitor, engine: GapEngine):
    visitor.choose("Side by side")
    visitor.ask_and_wait(QUESTION)
    visitor.ask_and_wait("And why?")

    later = {request.style: request.messages for request in engine.requests[2:]}
    for style, text in engine.texts.items():
        assert later[style] == (
            Message("user", QUESTION),
            Message("assistant", text),
            Message("user", "And why?"),
        )


def test_an_answer_can_be_asked_for_again_and_then_in_every_style(
    visitor: Visitor, engine: GapEngine
):
    visitor.ask_and_wait(QUESTION)
    engine.texts["terse"] = "Another answer."
    visitor.button("Answer again").click()
    expect(visitor.words).to_have_text(["Another answer."])
    visitor.wait()
    visitor.button("Answer in every style").click()
    expect(visitor.answers).to_have_count(2)
    visitor.wait()

    assert [request.style for request in engine.requests] == ["terse", "terse", "verbose"]
    assert {request.messages for request in engine.requests} == {(Message("user", QUESTION),)}


def test_an_edited_question_replaces_what_followed_until_that_is_undone(
    visitor: Visitor, engine: GapEngine
):
    visitor.ask_and_wait(QUESTION)
    visitor.ask_and_wait("And why?")
    visitor.page.locator(".question").first.hover()
    visitor.button("Edit the question").first.click()
    editor = visitor.page.get_by_role("textbox", name="Edit the question")
    expect(editor).to_have_value(QUESTION)
    editor.fill("What is DNS?")
    editor.press("Enter")

    expect(visitor.page.locator(".question-text")).to_have_text(["What is DNS?"])
    expect(visitor.words).to_have_text([TERSE])
    assert engine.requests[-1].messages == (Message("user", "What is DNS?"),)
    visitor.button("Undo").click()
    expect(visitor.page.locator(".question-text")).to_have_text([QUESTION, "And why?"])
    expect(visitor.words).to_have_text([TERSE, TERSE])


def test_escape_leaves_the_editor_and_changes_nothing(visitor: Visitor, engine: GapEngine):
    visitor.ask_and_wait(QUESTION)
    visitor.page.locator(".question").hover()
    visitor.button("Edit the question").click()
    visitor.page.get_by_role("textbox", name="Edit the question").fill("something else")
    visitor.page.keyboard.press("Escape")

    expect(visitor.page.locator(".question-text")).to_have_text(QUESTION)
    assert len(engine.requests) == 1


def test_settings_replace_the_preset_and_empty_fields_leave_it(visitor: Visitor, engine: GapEngine):
    visitor.button("Settings").click()
    temperature = visitor.page.get_by_label("Temperature", exact=True)
    assert temperature.get_attribute("placeholder") == "0.1"  # what the preset says
    temperature.fill("0")
    visitor.page.get_by_label("Longest answer, in tokens").fill("5")
    visitor.page.get_by_label("Seed").fill("0")
    visitor.page.keyboard.press("Enter")
    visitor.ask_and_wait(QUESTION)
    visitor.button("Settings (changed)").click()
    visitor.button("Back to the presets").click()
    visitor.button("Close the settings").click()
    visitor.ask_and_wait(QUESTION)

    first, second = engine.requests
    assert (first.temperature, first.max_new_tokens, first.seed) == (0, 5, 0)
    assert (second.temperature, second.max_new_tokens, second.seed) == (None, None, None)


def test_a_setting_out_of_range_is_explained_and_not_sent(visitor: Visitor, engine: GapEngine):
    visitor.button("Settings").click()
    visitor.page.get_by_label("Temperature", exact=True).fill("3")

    expect(visitor.page.locator("#temperature-problem")).to_contain_text("2")
    visitor.button("Close the settings").click()
    visitor.ask_and_wait(QUESTION)
    assert engine.requests[0].temperature is None


def test_a_sample_question_can_be_asked_with_one_click(visitor: Visitor, engine: GapEngine):
    visitor.page.locator(".sample").first.click()
    expect(visitor.words).to_have_text(TERSE)
    visitor.wait()

    expect(visitor.page.locator("#welcome")).to_be_hidden()
    assert engine.requests[0].messages[0].content == QUESTION
