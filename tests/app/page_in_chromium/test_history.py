"""What the browser keeps: conversations over reloads, deleting, export and import."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.app.page_in_chromium.conftest import Enter, Visitor
from tests.app.page_in_chromium.engine import TERSE, GapEngine

pytestmark = pytest.mark.slow

QUESTION = "What is rate limiting?"


def listed(visitor: Visitor) -> Locator:
    return visitor.page.get_by_role("navigation").locator(".conversation")


def exported(visitor: Visitor, folder: Path) -> Path:
    with visitor.page.expect_download() as download:
        visitor.button("Export").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def import_file(visitor: Visitor, path: Path) -> None:
    with visitor.page.expect_file_chooser() as chooser:
        visitor.button("Import").click()
    chooser.value.set_files(path)


def test_a_reload_brings_the_conversation_back_and_it_goes_on(visitor: Visitor, engine: GapEngine):
    visitor.ask_and_wait(QUESTION)
    visitor.come()

    expect(visitor.words).to_have_text([TERSE])
    expect(visitor.page.locator(".figures")).to_contain_text("13 tokens")
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text(QUESTION)
    visitor.ask_and_wait("And why?")
    assert [message.content for message in engine.requests[-1].messages] == [
        QUESTION,
        TERSE,
        "And why?",
    ]


def test_an_answer_under_way_at_a_reload_is_kept_as_far_as_it_came(
    visitor: Visitor, engine: GapEngine
):
    engine.open.clear()
    visitor.ask(QUESTION)
    expect(visitor.words).to_have_text("It caps how")
    visitor.come()

    expect(visitor.words).to_have_text("It caps how")
    expect(visitor.page.get_by_text("Stopped.")).to_be_visible()
    expect(visitor.button("Stop")).to_be_hidden()


def test_several_conversations_are_kept_apart(visitor: Visitor, engine: GapEngine):
    visitor.ask_and_wait("First")
    visitor.button("New conversation").click()
    expect(visitor.words).to_have_count(0)
    visitor.ask_and_wait("Second")
    expect(listed(visitor)).to_have_text(["Second", "First"])
    listed(visitor).nth(1).click()

    expect(visitor.page.locator(".question-text")).to_have_text(["First"])
    assert len(engine.requests[1].messages) == 1


def test_another_conversation_stops_the_answer_of_this_one(visitor: Visitor, engine: GapEngine):
    engine.open.clear()
    visitor.ask(QUESTION)
    expect(visitor.words).to_have_text("It caps how")
    visitor.button("New conversation").click()
    expect(visitor.page.locator("#welcome")).to_be_visible()

    assert engine.handles[0].given_up.wait(10)
    listed(visitor).click()
    expect(visitor.words).to_have_text("It caps how")


def test_a_deleted_conversation_is_gone_unless_that_is_undone(visitor: Visitor):
    visitor.ask_and_wait(QUESTION)
    visitor.button(f"Delete “{QUESTION}”").click()
    expect(listed(visitor)).to_have_count(0)
    expect(visitor.page.locator("#welcome")).to_be_visible()
    visitor.button("Undo").click()
    expect(listed(visitor)).to_have_text([QUESTION])
    visitor.button("Settings").click()
    visitor.button("Delete all conversations").click()
    expect(listed(visitor)).to_have_count(0)
    visitor.come()

    expect(listed(visitor)).to_have_count(0)


def test_exported_conversations_can_be_imported_elsewhere(enter: Enter, tmp_path: Path):
    here = enter()
    here.choose("Side by side")
    here.ask_and_wait(QUESTION)
    path = exported(here, tmp_path)

    content = json.loads(path.read_text(encoding="utf-8"))
    assert (content["format"], content["version"]) == ("laconic-conversations", 1)
    (turn,) = content["conversations"][0]["turns"]
    assert turn["question"] == QUESTION
    assert [answer["style"] for answer in turn["answers"]] == ["terse", "verbose"]
    assert turn["answers"][0]["tokens"] == 13
    there = enter()
    import_file(there, path)
    expect(there.page.get_by_text("Imported 1 conversation.")).to_be_visible()
    listed(there).click()
    expect(there.answers).to_have_count(2)
    import_file(there, path)
    expect(there.page.get_by_text("Nothing new in that file.")).to_be_visible()


def test_an_api_key_is_not_exported(visitor: Visitor, tmp_path: Path):
    visitor.button("Settings").click()
    visitor.page.get_by_label("API key").fill("open sesame")
    visitor.button("Close the settings").click()
    visitor.ask_and_wait(QUESTION)

    assert "open sesame" not in exported(visitor, tmp_path).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "The file is not JSON."),
        ("[]", "was not exported from this page"),
        ('{"format": "laconic-conversations", "version": 2, "conversations": []}', "version"),
        (
            '{"format": "laconic-conversations", "version": 1,'
            ' "conversations": [{"turns": [{"question": "Why?", "answers": [{}]}]}]}',
            "Conversation 1 of the file cannot be read: an answer is not text.",
        ),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused_with_the_reason(
    visitor: Visitor, tmp_path: Path, content: str, words: str
):
    path = tmp_path / "conversations.json"
    path.write_text(content, encoding="utf-8")
    import_file(visitor, path)

    expect(visitor.page.locator("#notices")).to_contain_text(words)
    expect(listed(visitor)).to_have_count(0)


def test_two_tabs_show_the_same_list(visitor: Visitor):
    other = visitor.page.context.new_page()
    other.goto(visitor.address)
    visitor.ask_and_wait(QUESTION)

    expect(other.locator(".conversation")).to_have_text([QUESTION])


def test_the_page_works_where_the_browser_keeps_nothing(enter: Enter, engine: GapEngine):
    visitor = enter()
    visitor.page.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new Error('off'); }})"
    )
    visitor.come()
    visitor.ask_and_wait(QUESTION)

    expect(visitor.words).to_have_text(TERSE)
    expect(visitor.page.locator("#notices")).to_contain_text("no room")
    expect(listed(visitor)).to_have_text([QUESTION])
