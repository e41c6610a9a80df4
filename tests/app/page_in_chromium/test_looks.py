"""How the page looks and is used: Markdown, copying, colours, phones, keyboards, motion."""

import pytest
from playwright.sync_api import expect

from tests.app.page_in_chromium.conftest import Enter, Visitor
from tests.app.page_in_chromium.engine import TERSE, GapEngine

pytestmark = pytest.mark.slow

QUESTION = "What is rate limiting?"
WIDE = (
    f"{'Donaudampfschifffahrt' * 12}\n\n```\n{'x' * 400}\n```\n\n"
    f"| {' | '.join('column' for _ in range(12))} |\n{'|---' * 12}|\n{'| value ' * 12}|\n"
)
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# What has the focus, and whether that can be seen.
FOCUS = """() => {
    const element = document.activeElement;
    const label = element.type === "radio" ? element.nextElementSibling : element;
    const { outlineStyle, outlineWidth } = getComputedStyle(label);
    const outline = outlineStyle !== "none" && outlineWidth !== "0px";
    const ring = element.id === "question"
        && getComputedStyle(element.closest(".composer")).boxShadow.includes("0px 0px 0px 1px");
    return [element.id || element.className || element.name, outline || ring];
}"""
PHONE = {"viewport": {"width": 375, "height": 720}, "has_touch": True, "is_mobile": True}


def test_markdown_is_drawn_and_code_is_coloured(visitor: Visitor):
    visitor.choose("Verbose")
    visitor.ask_and_wait(QUESTION)

    expect(visitor.words.locator("strong")).to_have_text("Rate limiting")
    expect(visitor.words.get_by_role("heading")).to_have_text("How it works")
    expect(visitor.words.locator("li")).to_have_text(
        ["Count the calls.", "Refuse what is too much."]
    )
    expect(visitor.words.locator("code .hljs-keyword").first).to_have_text("def")
    expect(visitor.words.locator(".code-head")).to_contain_text("python")


def test_columns_of_a_table_are_aligned_as_it_says(visitor: Visitor, engine: GapEngine):
    engine.texts["terse"] = "| name | bytes |\n|---|---:|\n| key | 8 |\n"
    visitor.ask_and_wait(QUESTION)

    expect(visitor.page.get_by_role("cell", name="8")).to_have_css("text-align", "right")


def test_answers_code_and_questions_can_be_copied(enter: Enter):
    visitor = enter(permissions=["clipboard-read", "clipboard-write"])
    visitor.choose("Verbose")
    visitor.ask_and_wait(QUESTION)

    def copied(name: str) -> str:
        visitor.page.locator(".question").hover()
        visitor.button(name).click()
        expect(visitor.button("Copied")).to_be_visible()
        text = visitor.page.evaluate("navigator.clipboard.readText()")
        expect(visitor.button(name)).to_be_visible()
        return text

    assert copied("Copy the code") == "def allow(calls: int) -> bool:\n    return calls < 100"
    assert copied("Copy the answer").startswith("**Rate limiting** caps")
    assert copied("Copy the question") == QUESTION


def test_copying_works_without_the_clipboard_of_secure_pages(enter: Enter):
    visitor = enter(permissions=["clipboard-read", "clipboard-write"])
    visitor.ask_and_wait(QUESTION)
    visitor.page.evaluate("navigator.clipboard.writeText = undefined")
    visitor.button("Copy the answer").click()

    expect(visitor.button("Copied")).to_be_visible()
    assert visitor.page.evaluate("navigator.clipboard.readText()") == TERSE


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_until_they_are_chosen(enter: Enter, scheme: str):
    visitor = enter(color_scheme=scheme)
    paper = {"light": "rgb(248, 247, 243)", "dark": "rgb(23, 25, 26)"}
    body = visitor.page.locator("body")

    expect(body).to_have_css("background-color", paper[scheme])
    visitor.button("Colours: as the system").click()
    expect(body).to_have_css("background-color", paper["light"])
    visitor.button("Colours: light").click()
    expect(body).to_have_css("background-color", paper["dark"])
    visitor.come()
    expect(body).to_have_css("background-color", paper["dark"])
    visitor.button("Colours: dark").click()
    expect(body).to_have_css("background-color", paper[scheme])


def test_a_phone_never_scrolls_sideways(enter: Enter, engine: GapEngine):
    visitor = enter(**PHONE)
    assert visitor.page.evaluate(OVERFLOW) == 0
    engine.texts = {"terse": WIDE, "verbose": WIDE}
    visitor.choose("Side by side")
    visitor.ask_and_wait("W" * 300)

    assert visitor.page.evaluate(OVERFLOW) == 0
    scroller = visitor.page.locator("#scroller")
    assert scroller.evaluate("it => it.scrollWidth - it.clientWidth") == 0
    first, second = (visitor.answers.nth(index).bounding_box() for index in (0, 1))
    assert first["width"] <= 375
    assert second["y"] > first["y"] + first["height"]  # one beneath the other


def test_a_phone_shows_the_conversations_over_the_page(enter: Enter):
    visitor = enter(**PHONE)
    visitor.ask_and_wait(QUESTION)
    listed = visitor.page.locator(".conversation")
    expect(listed).not_to_be_visible()
    visitor.button("Conversations").click()
    expect(listed).to_be_visible()
    assert visitor.page.evaluate(OVERFLOW) == 0
    visitor.page.keyboard.press("Escape")
    expect(listed).not_to_be_visible()
    expect(visitor.button("Conversations")).to_be_focused()
    visitor.button("Conversations").click()
    visitor.button("New conversation").click()

    expect(listed).not_to_be_visible()
    expect(visitor.page.locator("#welcome")).to_be_visible()


def test_slash_goes_to_the_question_unless_somebody_types_one(visitor: Visitor):
    visitor.button("Settings").focus()
    visitor.page.keyboard.press("/")
    expect(visitor.field).to_be_focused()
    visitor.page.keyboard.press("/")

    expect(visitor.field).to_have_value("/")


def test_the_page_can_be_used_by_keyboard_alone(visitor: Visitor, engine: GapEngine):
    page = visitor.page
    page.locator(".skip").focus()
    stops = [page.evaluate(FOCUS)]
    for _ in range(10):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(FOCUS))

    assert [name for name, _ in stops] == [
        *("skip", "new-conversation", "import", "theme", "open-settings"),
        *("sample", "sample", "sample", "sample"),
        *("question", "style"),
    ]
    assert [name for name, visible in stops if not visible] == []
    visitor.field.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    visitor.ask_and_wait(QUESTION)
    assert engine.requests[0].style == "verbose"


def test_nothing_moves_for_those_who_do_not_want_it(enter: Enter, engine: GapEngine):
    moving = "document.getAnimations().length"
    engine.open.clear()
    for preference, moves in (("no-preference", True), ("reduce", False)):
        visitor = enter(reduced_motion=preference)
        visitor.ask(QUESTION)
        expect(visitor.words).to_have_text("It caps how")
        assert (visitor.page.evaluate(moving) > 0) == moves
        visitor.button("Stop").click()
        visitor.wait()


def test_a_long_answer_stops_scrolling_when_its_question_reaches_the_top(
    visitor: Visitor, engine: GapEngine
):
    engine.texts["terse"] = "\n\n".join(f"Paragraph {number}." for number in range(80))
    visitor.ask_and_wait(QUESTION)

    expect(visitor.page.locator(".question-text")).to_be_in_viewport()
    expect(visitor.page.get_by_text("Paragraph 79.")).not_to_be_in_viewport()
    visitor.button("Newest").click()
    expect(visitor.page.get_by_text("Paragraph 79.")).to_be_in_viewport()
    expect(visitor.button("Newest")).to_be_hidden()


def test_what_a_reader_selected_stays_selected_while_the_answer_grows(
    visitor: Visitor, engine: GapEngine
):
    engine.texts["terse"] = "One two\n\nthree four five."
    engine.open.clear()
    visitor.ask(QUESTION)
    expect(visitor.words).to_contain_text("three")
    visitor.page.evaluate(
        "getSelection().selectAllChildren(document.querySelector('.prose').firstElementChild)"
    )
    engine.open.set()
    visitor.wait()

    expect(visitor.words).to_contain_text("five.")
    assert visitor.page.evaluate("getSelection().toString()").strip() == "One two"
