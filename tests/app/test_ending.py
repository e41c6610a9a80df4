import pytest
from flask import Flask
from werkzeug.test import create_environ

from app import ending
from app.ending import when_over


@pytest.fixture
def calls():
    return []


@pytest.fixture
def app(calls):
    """An application whose only answer is a stream of two parts."""
    app = Flask(__name__)
    ending.register(app)

    def answer():
        when_over(lambda: calls.append("first"))
        when_over(lambda: calls.append("second"))
        return iter(["a", "b"])

    app.add_url_rule("/", view_func=answer)
    return app


def begin(app):
    return app.wsgi_app(create_environ("/"), lambda *_: None)


def test_nothing_is_called_before_the_answer_is_over(app, calls):
    body = begin(app)
    assert list(body) == [b"a", b"b"]
    assert calls == []
    body.close()
    assert calls == ["second", "first"]


def test_an_answer_that_nobody_reads_is_over_when_it_is_closed(app, calls):
    begin(app).close()
    assert len(calls) == 2


def test_closing_twice_calls_nothing_twice(app, calls):
    body = begin(app)
    body.close()
    body.close()
    assert len(calls) == 2


def test_a_request_that_fails_without_an_answer_is_over_at_once(app, calls):
    def interrupt(response):
        raise KeyboardInterrupt

    app.after_request(interrupt)
    with pytest.raises(KeyboardInterrupt):
        begin(app)
    assert len(calls) == 2


def test_a_callback_that_fails_keeps_no_other_from_being_called(app, calls):
    app.before_request(lambda: when_over(lambda: calls.append("zeroth")))
    app.before_request(lambda: when_over(lambda: 1 / 0))
    begin(app).close()
    assert calls == ["second", "first", "zeroth"]
