"""Nothing in a question, an answer or a file becomes active content of the page."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.app.page_in_chromium.conftest import Visitor
from tests.app.page_in_chromium.engine import GapEngine, GapHandle, complete

pytestmark = pytest.mark.slow

ATTACKS = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<svg onload='window.hacked = 1'><circle r=9 /></svg>",
    "<svg><style><img src=x onerror=window.hacked=1></style></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.hacked=1>",
    "<iframe srcdoc='<script>parent.hacked = 1</script>'></iframe>",
    "<form action=https://outside.example><button>Send</button></form>",
    "<style>body { display: none }</style>",
    "<link rel=stylesheet href=https://outside.example/x.css>",
    "<meta http-equiv=refresh content='0;url=https://outside.example'>",
    "<base href=https://outside.example/>",
    "<a href='javascript:window.hacked=1'>press</a>",
    "[press](javascript:window.hacked=1)",
    "[press](<java\nscript:window.hacked=1>)",
    "[press](data:text/html,<script>window.hacked=1</script>)",
    "[press](/health 'x\" onclick=\"window.hacked=1')",
    "![picture](https://outside.example/pixel.png)",
    '![picture](x"onerror=window.hacked=1)',
    '```"><img/src=x/onerror=window.hacked=1>\ncode\n```',
    "```html\n<script>window.hacked = 1</script>\n```",
    "`<img src=x onerror=window.hacked=1>`",
    "| <img src=x onerror=window.hacked=1> |\n|---|\n| <script>window.hacked=1</script> |",
    "<!--><img src=x onerror=window.hacked=1>-->",
]
MARKDOWN = {
    *("a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol"),
    *("p", "pre", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}
# and the frames around code and tables; anything else would be somebody else's
ALLOWED = MARKDOWN | {"div", "button", "svg", "rect", "path"}
INSPECT = """all => all.flatMap(root => [...root.querySelectorAll("*")]).map(element => ({
    name: element.localName,
    href: element.getAttribute("href"),
    events: element.getAttributeNames().filter(name => name.startsWith("on") || name === "style"),
}))"""


def assert_harmless(visitor: Visitor) -> None:
    elements = visitor.page.locator(".prose").evaluate_all(INSPECT)
    assert visitor.page.evaluate("window.hacked") is None
    assert {element["name"] for element in elements} - ALLOWED == set()
    assert [element for element in elements if element["events"]] == []
    links = {element["href"] for element in elements} - {None}
    assert {link for link in links if not link.startswith("https://")} == set()
    expect(visitor.field).to_be_visible()  # no style of an answer hides the page


@pytest.mark.parametrize("attack", ["\n\n".join(ATTACKS), *ATTACKS[:4]])
def test_active_content_in_an_answer_is_shown_as_text(
    visitor: Visitor, engine: GapEngine, attack: str
):
    engine.texts["terse"] = f"Before.\n\n{attack}\n\nAfter."
    visitor.ask_and_wait("Attack me.")

    expect(visitor.words).to_contain_text("After.")
    expect(visitor.words).to_contain_text("window.hacked")
    assert_harmless(visitor)


def test_html_that_got_past_markdown_would_be_purified(visitor: Visitor):
    found = visitor.page.evaluate(
        """async attacks => {
            const { purify } = await import("/static/render.js");
            const elements = attacks.flatMap(html => [...purify(html).querySelectorAll("*")]);
            return elements.map(({ localName, attributes }) =>
                [localName, ...[...attributes].map(({ name }) => name)]);
        }""",
        [
            *ATTACKS,
            "<p id=log style='color: red' data-x=1 aria-label=x onclick=x()><b>Words</b></p>",
        ],
    )

    assert ["p"] in found
    assert {name for name, *_ in found} <= MARKDOWN
    assert {attribute for _, *attributes in found for attribute in attributes} <= {"href"}
    visitor.expects("Content Security Policy")  # styles are parsed before they are dropped


def test_active_content_in_pieces_is_harmless_at_every_piece(visitor: Visitor, engine: GapEngine):
    attack = "\n\n".join(ATTACKS[:6])
    engine.script.append(GapHandle(complete(attack, "terse"), list(attack), engine.open))
    visitor.ask_and_wait("Attack me letter by letter.")

    expect(visitor.words).to_contain_text("window.hacked")
    assert_harmless(visitor)


def test_active_content_in_a_question_is_shown_as_text(visitor: Visitor):
    question = ATTACKS[1]
    visitor.ask_and_wait(question)

    expect(visitor.page.locator(".question-text")).to_have_text(question)
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text(question)
    expect(visitor.page.locator(".conversation")).to_have_text(question)
    assert visitor.page.evaluate("window.hacked") is None


def test_active_content_in_an_imported_file_is_shown_as_text(visitor: Visitor, tmp_path: Path):
    attack = ATTACKS[1]
    answer = {"style": attack, "response": attack, "state": "failed", "problem": attack}
    conversation = {
        "id": '"><img src=x onerror=window.hacked=1>',
        "title": attack,
        "turns": [{"question": attack, "answers": [answer]}],
    }
    path = tmp_path / "conversations.json"
    head = {"format": "laconic-conversations", "version": 1}
    path.write_text(json.dumps({**head, "conversations": [conversation]}), encoding="utf-8")
    with visitor.page.expect_file_chooser() as chooser:
        visitor.button("Import").click()
    chooser.value.set_files(path)
    visitor.page.locator(".conversation").click()

    expect(visitor.page.locator(".question-text")).to_have_text(attack)
    expect(visitor.page.get_by_role("group", name="Problem")).to_contain_text(attack)
    assert_harmless(visitor)


def test_active_content_in_an_error_is_shown_as_text(visitor: Visitor):
    problem = {"title": "Bad", "detail": ATTACKS[1]}
    visitor.page.route("**/generate", lambda route: route.fulfill(status=400, json=problem))
    visitor.ask_and_wait("Fail.")

    expect(visitor.page.get_by_role("group", name="Problem")).to_contain_text(ATTACKS[1])
    assert visitor.page.evaluate("window.hacked") is None
    visitor.expects("400")


@pytest.mark.parametrize(
    "mistake",
    [
        "const script = document.createElement('script'); script.append('window.hacked = 1');"
        "document.body.append(script)",
        "document.body.innerHTML = '<img src=x onerror=window.hacked=1>'",
        "setTimeout('window.hacked = 1', 0)",
    ],
)
def test_the_browser_itself_refuses_what_no_script_of_the_page_does(visitor: Visitor, mistake: str):
    visitor.page.evaluate("() => { try { " + mistake + " } catch {} }")

    assert visitor.page.evaluate("window.hacked") is None
    assert visitor.problems != []
    visitor.problems.clear()


def test_links_open_elsewhere_and_tell_nothing(visitor: Visitor, engine: GapEngine):
    engine.texts["terse"] = "See [this](https://outside.example/page)."
    visitor.ask_and_wait("Where?")
    link = visitor.page.get_by_role("link", name="this")

    assert link.get_attribute("target") == "_blank"
    assert set(link.get_attribute("rel").split()) >= {"noopener", "noreferrer"}
