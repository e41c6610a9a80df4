"""Words of a model come out of a Markdown reader as they went in."""

import html
import random
import re

import pytest
from markdown_it import MarkdownIt

from training.judging.markdown import escape, table

MARKS = [*"\\\\||`*_~#<>[](){}!&;$@:/.-+=1aé \"'", "amp", "http://", "<br>", "```", "**", "&#124;"]
READER = MarkdownIt("gfm-like", {"linkify": False})


def cells(text: str) -> list[str]:
    """What stands in the body of the only table of a text."""
    page = READER.render(text)
    body = page.split("<tbody>")[1].split("</tbody>")[0]
    inner = re.findall(r"<td>(.*?)</td>", body, re.DOTALL)
    assert not re.findall(r"<(?!/?(?:tr|td|br|em)\b)", body), body
    return [html.unescape(cell.replace("<br>", "\n").replace("<br />", "\n")) for cell in inner]


@pytest.mark.parametrize(
    "text",
    [
        "plain words, with a dot. And 5 - 3 = 2 (or so): yes!",
        "a | b || c \\| d \\",
        "**bold** _thin_ ~~gone~~ `code` ``` fence",
        "[link](http://x.example) ![image](y.png) <b>html</b> &amp; &#42; <STYLE_TERSE>",
        "# no heading",
        "1. no list",
        "- no bullet\n- nor here",
        "| not | a row |\n| --- | --- |",
        "first\n\nsecond\r\nthird",
        "$x$ and @somebody and #12",
    ],
)
def test_an_answer_is_shown_as_it_is(text):
    lines = [line.strip() for line in text.splitlines()]

    assert cells(table(("question", "answer"), [("?", text)])) == ["?", "\n".join(lines)]


@pytest.mark.parametrize("seed", range(20))
def test_any_mixture_of_marks_is_shown_as_it_is(seed):
    dice = random.Random(seed)
    texts = ["".join(dice.choices(MARKS, k=dice.randint(1, 12))) for _ in range(20)]

    shown = cells(table(("answer",), [(text,) for text in texts]))

    assert shown == [text.strip() or "<em>(empty)</em>" for text in texts]


def test_an_empty_answer_is_said_to_be_one():
    assert table(("answer",), [("  \n",)]).splitlines()[-1] == "| *(empty)* |"


def test_characters_that_cannot_be_seen_are_marked():
    assert escape("a\x1b[31mb\x00c\td") == "a�\\[31mb�c d"


@pytest.mark.parametrize("link", ["http://a.example", "HTTPS://a.example", "ftp://a", "www.a.de"])
def test_a_bare_link_does_not_become_one(link):
    shown = escape(f"see {link}")

    assert html.unescape(shown) == f"see {link}"
    assert link not in shown
