"""A real gunicorn that is told to stop, is killed, or must not start at all."""

import os
import signal
import threading
import time

import pytest

from app.auth.keys import make_key
from tests.app.crowd import Crowd
from tests.app.servers import Server, at_once, run_to_the_end, wait_for

pytestmark = pytest.mark.slow

MOST_AT_A_TIME = 32
LEAVING_SECONDS = 5
"""What is cut at the end of the drain gets that long for a last word."""


def stop(server):
    server.process.send_signal(signal.SIGTERM)


def ask_in_background(server, tasks):
    """A list of answers, which is filled by and by, and the thread that does it."""
    answers = []
    thread = threading.Thread(target=lambda: answers.extend(at_once(tasks)))
    thread.start()
    return answers, thread


def test_answers_under_way_are_finished_before_a_server_that_is_told_to_stop_ends():
    with Server(LACONIC_DRAIN_SECONDS="20") as server:
        ask = [lambda: server.ask("words 10 seconds 0.2")] * 10
        stream = [lambda: server.ask("words 10 seconds 0.2", stream=True)] * 10
        answers, thread = ask_in_background(server, ask + stream)
        wait_for(lambda: server.probe()["present"] == 20, 10)
        stop(server)
        thread.join()
        assert server.process.wait(10) == 0
        assert [answer[0] for answer in answers] == [200] * 20
        assert all("event: done" in answer[2] for answer in answers[10:])


def test_a_server_that_stops_tells_newcomers_to_come_back():
    with Server(LACONIC_DRAIN_SECONDS="20") as server:
        _, thread = ask_in_background(server, [lambda: server.ask("words 10 seconds 0.3")])
        wait_for(lambda: server.probe()["present"] == 1, 10)
        assert server.get("/health/ready")[0] == 200
        stop(server)
        wait_for(lambda: server.get("/health/ready")[0] == 503, 1)
        status, headers, _ = server.ask("words 1 seconds 0")
        assert (status, int(headers["Retry-After"]) > 0) == (503, True)
        assert server.get("/health/live")[0] == 200
        thread.join()
        assert server.process.wait(10) == 0


def test_what_takes_longer_than_the_drain_is_cut_with_a_word_and_the_server_ends():
    with Server(LACONIC_DRAIN_SECONDS="1") as server:
        tasks = [lambda: server.ask("words 600 seconds 0.1", stream=True)] * 5
        tasks += [lambda: server.ask("words 1 seconds 60", stream=True)] * 5
        tasks += [lambda: server.ask("words 1 seconds 60")] * 5
        answers, thread = ask_in_background(server, tasks)
        wait_for(lambda: server.probe()["present"] == 15, 10)
        started = time.monotonic()
        stop(server)
        assert server.process.wait(10) == 0
        assert time.monotonic() - started < 1 + 5
        thread.join()
        assert [answer[0] for answer in answers] == [200] * 10 + [503] * 5
        for _, _, text in answers[:10]:
            assert text.strip().split("\n\n")[-1].startswith("event: error")
        assert all(int(headers["Retry-After"]) > 0 for _, headers, _ in answers[10:])


def test_under_load_every_accepted_request_is_answered_before_the_end():
    with Server(LACONIC_DRAIN_SECONDS="10", LACONIC_LOG_FORMAT="json") as server:
        crowd = Crowd(server, 100, "words 5 seconds 0.2", restless=True)  # to the last moment
        wait_for(lambda: server.probe()["present"] == MOST_AT_A_TIME, 10)
        stop(server)
        stopped = time.monotonic()
        assert server.process.wait(10 + LEAVING_SECONDS) == 0
        answers = crowd.answers()

        accepted = server.ids_in_log("accepted")
        assert len(accepted) >= MOST_AT_A_TIME
        assert {answer.request_id for answer in answers if answer.status == 200} == accepted
        refused = [answer for answer in answers if answer.status not in {200, None}]
        assert {answer.status for answer in refused} == {503}
        assert all(answer.retry_after > 0 for answer in refused)
        assert any(answer.began > stopped for answer in refused)


def test_stopping_twice_is_no_different():
    with Server(LACONIC_DRAIN_SECONDS="20") as server:
        answers, thread = ask_in_background(server, [lambda: server.ask("words 5 seconds 0.2")])
        wait_for(lambda: server.probe()["present"] == 1, 10)
        worker = server.probe()["pid"]
        for _ in range(3):
            os.kill(worker, signal.SIGTERM)
        stop(server)
        thread.join()
        assert answers[0][0] == 200
        assert server.process.wait(10) == 0


def test_an_idle_server_ends_at_once():
    with Server(LACONIC_DRAIN_SECONDS="30") as server:
        stop(server)
        assert server.process.wait(6) == 0


def test_a_worker_that_is_killed_under_load_is_replaced_and_the_server_goes_on():
    with Server(LACONIC_LOG_FORMAT="json") as server:
        crowd = Crowd(server, 20, "words 2 seconds 0.1", restless=True)
        wait_for(lambda: server.probe()["present"] == 20, 10)
        killed = server.probe()["pid"]
        os.kill(killed, signal.SIGKILL)
        moment = time.monotonic()
        wait_for(lambda: server.probe()["pid"] != killed, 20)
        wait_for(lambda: server.probe()["present"] == 20, 10)
        answers = crowd.answers()

        accepted = server.ids_in_log("accepted")
        answered = {answer.request_id for answer in answers if answer.status == 200}
        lost = [answer for answer in answers if answer.status is None]
        assert {answer.status for answer in answers} == {200, None}
        assert accepted - answered <= {answer.request_id for answer in lost}
        assert 1 <= len(lost) <= 20  # what each client was waiting for, and nothing after that
        assert all(answer.began < moment for answer in lost)


def test_a_worker_that_gives_itself_up_is_replaced():
    with Server() as server:
        given_up = server.probe()["pid"]
        os.kill(given_up, signal.SIGTERM)
        wait_for(lambda: server.probe()["pid"] != given_up, 20)
        assert server.ask("words 1 seconds 0")[0] == 200


def test_a_signal_for_a_second_worker_starts_none():
    with Server() as server:
        server.process.send_signal(signal.SIGTTIN)
        wait_for(lambda: "one worker at most" in server.read_log(), 5)
        assert server.read_log().count("Booting worker") == 1


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(["--workers", "2"], {}), ([], {"WEB_CONCURRENCY": "2"})],
)
def test_two_workers_are_refused_with_the_reason(arguments, environment):
    status, log = run_to_the_end(*arguments, **environment)
    assert status == 1
    assert "one process owns the model" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", ":0"])
def test_a_public_address_without_keys_is_refused_with_the_way_out(bind):
    status, log = run_to_the_end("--bind", bind)
    assert status == 1
    assert "python -m app.auth" in log
    assert "LACONIC_ALLOW_PUBLIC_WITHOUT_KEYS=true" in log
    assert "Listening" not in log
    assert "Traceback" not in log


def test_a_server_with_keys_asks_for_them(tmp_path):
    (tmp_path / "keys").write_text(make_key("ann")[1], encoding="utf-8")
    with Server(LACONIC_API_KEYS_FILE=str(tmp_path / "keys")) as server:
        assert server.ask("words 1 seconds 0")[0] == 401
        assert server.get("/health")[0] == 200
