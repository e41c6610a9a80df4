from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.errors import GenerationError
from serving.handle import RequestHandle
from tests.fakes import COMPLETION


def make_handle(*events):
    handle = RequestHandle(streams=True)
    for event in events:
        handle.put(event)
    return handle


# Text


def test_pieces_come_in_order_until_the_completion():
    handle = make_handle("It caps", " how many", " requests.", COMPLETION)

    assert list(handle) == ["It caps", " how many", " requests."]


def test_a_piece_can_be_taken_before_the_next_one_is_there():
    handle = make_handle("It caps")
    pieces = iter(handle)

    first = next(pieces)
    handle.put(" how many")
    second = next(pieces)

    assert (first, second) == ("It caps", " how many")


def test_a_completion_without_pieces_ends_the_text_at_once():
    assert list(make_handle(COMPLETION)) == []


def test_text_that_was_taken_does_not_come_again():
    handle = make_handle("It caps", " how many", COMPLETION)

    first = next(iter(handle))
    rest = list(handle)

    assert (first, rest) == ("It caps", [" how many"])
    assert list(handle) == []


# The end


def test_the_result_is_the_completion_whatever_text_nobody_took():
    assert make_handle("It caps", " how many", COMPLETION).result() is COMPLETION


def test_the_result_is_there_after_the_text():
    handle = make_handle("It caps", COMPLETION)

    list(handle)

    assert handle.result() is COMPLETION


def test_the_result_can_be_asked_for_again():
    handle = make_handle(COMPLETION)

    assert handle.result() is handle.result() is COMPLETION


def test_a_failure_is_raised_after_the_pieces_that_came_before():
    error = GenerationError("the model failed")
    pieces = iter(make_handle("It caps", error))

    assert next(pieces) == "It caps"
    with pytest.raises(GenerationError) as caught:
        next(pieces)
    assert caught.value is error


def test_a_failure_is_raised_for_whoever_waits_for_the_result():
    error = GenerationError("the model failed")

    with pytest.raises(GenerationError) as caught:
        make_handle("It caps", error).result()

    assert caught.value is error


def test_a_failure_stays_a_failure():
    handle = make_handle(GenerationError("the model failed"))

    for ask in (handle.result, handle.next_piece, lambda: list(handle), handle.result):
        with pytest.raises(GenerationError, match="the model failed"):
            ask()


# One piece at a time


def test_the_next_piece_is_none_once_the_answer_is_complete():
    handle = make_handle("It caps", " how many", COMPLETION)

    pieces = [handle.next_piece(0) for _ in range(4)]

    assert pieces == ["It caps", " how many", None, None]
    assert handle.result() is COMPLETION


def test_an_empty_piece_is_not_the_end():
    assert make_handle("", COMPLETION).next_piece(0) == ""


def test_waiting_for_a_piece_ends_with_the_time_that_was_allowed():
    handle = make_handle()

    for timeout_seconds in (0, 0.001):
        with pytest.raises(TimeoutError):
            handle.next_piece(timeout_seconds)


def test_nothing_is_lost_by_waiting_in_vain():
    handle = make_handle()
    with pytest.raises(TimeoutError):
        handle.next_piece(0)

    handle.put("It caps")
    handle.put(COMPLETION)

    assert (handle.next_piece(0), handle.next_piece(0)) == ("It caps", None)


def test_a_failure_is_raised_in_place_of_a_piece():
    error = GenerationError("the model failed")
    handle = make_handle("It caps", error)

    assert handle.next_piece(0) == "It caps"
    for _ in range(2):
        with pytest.raises(GenerationError) as caught:
            handle.next_piece(0)
        assert caught.value is error


def test_pieces_can_be_taken_one_by_one_and_then_all_together():
    handle = make_handle("It caps", " how many", " requests.", COMPLETION)

    assert handle.next_piece(0) == "It caps"
    assert list(handle) == [" how many", " requests."]
    assert handle.next_piece(0) is None


# Other threads


def test_the_result_waits_for_the_engine():
    handle = make_handle()

    with ThreadPoolExecutor(1) as caller:
        waiting = caller.submit(handle.result)
        handle.put("It caps")
        handle.put(COMPLETION)

        assert waiting.result(timeout=20) is COMPLETION


def test_a_piece_is_given_as_soon_as_it_is_there():
    handle = make_handle()

    with ThreadPoolExecutor(1) as caller:
        waiting = caller.submit(handle.next_piece, 20)
        handle.put("It caps")

        assert waiting.result(timeout=10) == "It caps"


def test_every_piece_arrives_while_the_engine_goes_on():
    handle = make_handle()
    sent = [f"word{number} " for number in range(2000)]

    with ThreadPoolExecutor(1) as caller:
        received = caller.submit(lambda: list(handle))
        for event in [*sent, COMPLETION]:
            handle.put(event)

        assert received.result(timeout=20) == sent


# Whether and how


def test_a_handle_is_cancelled_only_once_it_is_asked_for():
    handle, other = make_handle(), make_handle()

    handle.cancel()
    handle.cancel()

    assert handle.cancelled
    assert not other.cancelled


def test_what_came_before_the_cancellation_can_still_be_taken():
    handle = make_handle("It caps", COMPLETION)

    handle.cancel()

    assert list(handle) == ["It caps"]
    assert handle.result() is COMPLETION


@pytest.mark.parametrize("streams", [True, False])
def test_a_handle_tells_the_engine_whether_text_is_wanted(streams):
    assert RequestHandle(streams=streams).streams is streams
