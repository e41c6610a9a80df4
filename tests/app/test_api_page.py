"""What docs/api.md says of Laconic's own routes is so."""

import itertools
import json
import re
import shlex
from pathlib import Path

import pytest

from app.ai_echo import EchoRequestSchema
from app.schemas import GenerateRequestSchema, GenerateResponseSchema
from app.training_status import TrainingStatusSchema
from tests.app.events import parse
from tests.app.problems import read_problem

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


def find_blocks(text):
    """Language and content of every block of code."""
    return re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)


BLOCKS = find_blocks(PAGE)
CURLS = [text for language, text in BLOCKS if language == "sh" and text.startswith("curl ")]


def section(title):
    """What stands below a heading, up to the next one of the same rank."""
    (rank,) = re.findall(rf"^(#+) {re.escape(title)}$", PAGE, re.MULTILINE)
    return PAGE.partition(f"\n{rank} {title}\n")[2].partition(f"\n{rank} ")[0]


def first_column(text):
    """The names in the first column of a table."""
    cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def run_curl(client, command):
    """Send what a curl command would send."""
    words = iter(shlex.split(command.replace("\\\n", " "))[1:])
    url, headers, data = None, {}, None
    for word in words:
        if word == "-H":
            name, value = next(words).split(": ")
            headers[name] = value
        elif word == "-d":
            data = next(words)
        elif not word.startswith("-"):
            assert url is None
            url = word
        else:
            assert word in {"-s", "-sN", "-i"}
    path = url.removeprefix("http://").removeprefix("localhost:8000")
    return client.open(path, method="GET" if data is None else "POST", data=data, headers=headers)


def streams(text):
    """The examples of streams in a part of the page."""
    blocks = [block for language, block in find_blocks(text) if language == ""]
    return [block.strip().split("\n\n") for block in blocks if "data: " in block]


@pytest.mark.parametrize("command", CURLS)
def test_every_curl_of_the_page_is_answered(client, command):
    response = run_curl(client, command)
    assert response.status_code == 200, response.get_data(as_text=True)


def test_the_page_shows_every_native_route_with_a_curl():
    shown = {re.search(r"localhost:8000(/[\w/-]*)", command)[1] for command in CURLS}
    native = {"/generate", "/api/ai-echo/chat", "/api/ai-echo/stream", "/api/training/status"}
    assert native <= shown


ANSWERED = [
    (command, answer)
    for (kind, command), (next_kind, answer) in itertools.pairwise(BLOCKS)
    if (kind, next_kind) == ("sh", "json") and command in CURLS
]


@pytest.mark.parametrize(("command", "answer"), ANSWERED)
def test_the_json_behind_a_curl_has_the_keys_of_its_answer(client, command, answer):
    assert list(json.loads(answer)) == list(run_curl(client, command).get_json())


@pytest.mark.parametrize(
    ("title", "path", "body"),
    [
        ("`POST /generate`", "/generate", {"prompt": "a", "stream": True}),
        ("For an existing chat page", "/api/ai-echo/stream", {"message": "a"}),
    ],
)
def test_the_example_of_a_stream_has_the_form_of_a_stream(client, title, path, body):
    (example,) = streams(section(title))
    *_, piece, end = client.post(path, json=body).get_data(as_text=True).strip().split("\n\n")
    for shown, sent in zip(example[-2:], (piece, end), strict=True):
        assert parse(shown).name == parse(sent).name
        assert list(parse(shown).data) == list(parse(sent).data)


def test_the_pieces_of_every_stream_shown_are_its_response():
    for example in (
        *streams(section("`POST /generate`")),
        *streams(section("For an existing chat page")),
    ):
        *pieces, end = [parse(block).data for block in example if not block.startswith(":")]
        assert "".join(text for piece in pieces for text in piece.values()) == end["response"]


def test_every_field_of_a_request_stands_in_its_table():
    requests = section("`POST /generate`").partition("### Fields of a request")[2]
    told = first_column(requests.partition("### ")[0])
    assert told == set(GenerateRequestSchema._declared_fields)


def test_every_field_of_an_answer_stands_in_its_table():
    told = first_column(section("`POST /generate`").partition("### ")[0])
    assert told == set(GenerateResponseSchema._declared_fields)


def test_every_field_of_the_chat_page_is_named():
    told = set(re.findall(r"`(\w+)`", section("For an existing chat page")))
    assert set(EchoRequestSchema._declared_fields) <= told


def test_the_example_of_a_run_has_its_keys():
    (example,) = re.findall(
        r'\{"state": "running".*?\}', section("`GET /api/training/status`"), re.DOTALL
    )
    assert list(json.loads(example)) == list(TrainingStatusSchema._declared_fields)


def test_the_example_of_an_error_is_what_the_server_answers(post):
    (example,) = [
        block for language, block in find_blocks(section("Problem documents")) if language == "json"
    ]
    problem = read_problem(post({"prompt": "a", "style": "loud"}), 422)
    assert json.loads(example) == problem
