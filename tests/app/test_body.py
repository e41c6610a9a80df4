import io
import json

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser

from app.config import WebConfig
from tests.app.problems import read_problem

LIMIT = WebConfig().max_body_bytes
GOOD = b'{"prompt": "What is DNS?"}'


class CountingStream:
    """A body that never ends, and counts what is read of it."""

    def __init__(self):
        self.bytes_read = 0

    def read(self, size=-1):
        assert size >= 0, "reading to the end would never return"
        self.bytes_read += size
        return b" " * size


class TricklingStream(io.BytesIO):
    """Gives one byte at a time, as a slow connection does."""

    def read(self, size=-1):
        return super().read(min(size, 1))


class BrokenStream:
    """A connection that the client closed."""

    def read(self, size=-1):
        raise ConnectionResetError("reset by peer")


def padded(size):
    """A good request of exactly this many bytes."""
    return GOOD + b" " * (size - len(GOOD))


@pytest.mark.parametrize(
    "body",
    ["", "{", '{"prompt"', '{"prompt": "a",}', "{'prompt': 'a'}", '{"prompt": "a"} x', "prompt=a"],
)
def test_malformed_json_is_refused_with_the_place_of_the_mistake(post, body):
    detail = read_problem(post(body), 400)["detail"]
    assert detail.startswith("The body is not JSON: ")
    assert "line 1 column" in detail


@pytest.mark.parametrize("body", ["null", "true", "5", '"prompt"', "[]", '[{"prompt": "a"}]'])
def test_a_body_that_is_no_object_is_refused_with_an_example(post, body):
    detail = read_problem(post(body), 400)["detail"]
    assert detail.startswith("The body must be a JSON object such as ")
    assert json.loads(detail[detail.index("{") : detail.rindex("}") + 1])["prompt"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_words_for_numbers_are_no_json(post, number):
    detail = read_problem(post(f'{{"prompt": "a", "temperature": {number}}}'), 400)["detail"]
    assert detail == f"The body is not JSON: {number} is not a JSON number"


@pytest.mark.parametrize(
    "body",
    ["[" * 30_000, '{"prompt": ' + "[" * 30_000, '{"a":' * 10_000, "[" * 30_000 + "]" * 30_000],
    ids=["open brackets", "a nested prompt", "open objects", "closed brackets"],
)
def test_deep_nesting_is_refused(post, body):
    assert read_problem(post(body), 400)["detail"] == "The body is nested too deeply."


def test_a_number_of_5000_digits_is_refused(post):
    problem = read_problem(post('{"prompt": "a", "seed": ' + "9" * 5000 + "}"), 400)
    assert problem["detail"].startswith("The body is not JSON: ")


def test_the_message_about_a_number_of_5000_digits_is_meant_for_the_client(post):
    problem = read_problem(post('{"prompt": "a", "seed": ' + "9" * 5000 + "}"), 400)
    assert "sys." not in problem["detail"]  # a client cannot call Python functions of the server


@pytest.mark.parametrize(
    "body",
    [b"\xff", b'{"prompt": "\xe9"}', b'{"prompt": "\xed\xa0\x80"}', GOOD.decode().encode("utf-16")],
    ids=["no text", "latin-1", "a surrogate as bytes", "utf-16 with a mark"],
)
def test_a_body_that_is_not_utf_8_is_refused(post, body):
    assert read_problem(post(body), 400)["detail"] == "The body is not UTF-8 text."


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-8-sig"])
def test_other_encodings_of_json_are_not_guessed(post, encoding):
    read_problem(post(GOOD.decode().encode(encoding)), 400)


def test_a_body_of_exactly_the_limit_is_read(post):
    assert post(padded(LIMIT)).status_code == 200


def test_a_body_over_the_limit_is_refused_with_the_limit(post):
    detail = read_problem(post(padded(LIMIT + 1)), 413)["detail"]
    assert detail == f"The body is larger than {LIMIT} bytes."


def test_a_body_announced_as_too_large_is_refused_unread(post_stream):
    stream = CountingStream()
    announced = {"CONTENT_LENGTH": str(LIMIT + 1), "HTTP_TRANSFER_ENCODING": ""}
    read_problem(post_stream(stream, **announced), 413)
    assert stream.bytes_read == 0


def test_a_chunked_body_is_read(post_stream):
    assert post_stream(GOOD).status_code == 200


def test_a_chunked_body_of_exactly_the_limit_is_read(post_stream):
    assert post_stream(padded(LIMIT)).status_code == 200


def test_a_chunked_body_over_the_limit_is_refused_and_not_cut_short(post_stream):
    detail = read_problem(post_stream(padded(LIMIT + 1)), 413)["detail"]
    assert detail == f"The body is larger than {LIMIT} bytes."


def test_a_body_without_end_is_read_no_further_than_the_limit(post_stream):
    stream = CountingStream()
    read_problem(post_stream(stream), 413)
    assert stream.bytes_read == LIMIT + 1


def test_a_body_that_arrives_in_small_pieces_is_put_together(engine, post_stream):
    assert post_stream(TricklingStream(GOOD)).status_code == 200
    assert engine.requests[0].messages[0].content == "What is DNS?"


def test_an_empty_chunked_body_is_refused(post_stream):
    assert "not JSON" in read_problem(post_stream(b""), 400)["detail"]


def test_without_length_or_end_mark_nothing_is_read(post_stream):
    stream = CountingStream()
    unmarked = {"HTTP_TRANSFER_ENCODING": "", "wsgi.input_terminated": False}
    read_problem(post_stream(stream, **unmarked), 400)
    assert stream.bytes_read == 0


def test_no_more_than_the_announced_length_is_read(post_stream):
    two_requests = io.BytesIO(GOOD + GOOD)
    announced = {"CONTENT_LENGTH": str(len(GOOD)), "HTTP_TRANSFER_ENCODING": ""}
    assert post_stream(two_requests, **announced).status_code == 200
    assert two_requests.read() == GOOD


@pytest.mark.parametrize("length", ["abc", "-5", "9" * 5000])
def test_a_length_that_is_no_number_is_refused(post_stream, length):
    announced = {"CONTENT_LENGTH": length, "HTTP_TRANSFER_ENCODING": ""}
    read_problem(post_stream(GOOD, **announced), 400)


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\n" + GOOD + b"\r\n0\r\n\r\n", b"1a\r\n" + GOOD[:5], b"5\r\n" + GOOD + b"\r\n0\r\n\r\n"],
    ids=["no chunk size", "ends early", "wrong chunk size"],
)
def test_chunks_that_gunicorn_cannot_read_are_the_clients_mistake(post_stream, chunks):
    head = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    request = next(RequestParser(Config(), iter([head + chunks]), ("127.0.0.1", 1)))
    read_problem(post_stream(request.body), 400)


def test_a_connection_that_breaks_is_no_failure_of_the_server(post_stream):
    read_problem(post_stream(BrokenStream()), 400)


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "nonsense"],
)
def test_a_body_not_declared_as_json_is_refused_with_the_header_to_send(client, content_type):
    response = client.post("/generate", data=GOOD, content_type=content_type)
    assert "Content-Type: application/json" in read_problem(response, 415)["detail"]


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/ld+json"]
)
def test_every_way_to_declare_json_is_understood(client, content_type):
    response = client.post("/generate", data=GOOD, content_type=content_type)
    assert response.status_code == 200
