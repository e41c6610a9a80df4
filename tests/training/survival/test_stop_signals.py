"""What SIGTERM and Ctrl-C do while training is under way."""

import signal
import threading

import pytest

from training.survival.stop_signals import StopSignals


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted_and_told(clock, capsys, number):
    with StopSignals(clock) as signals:
        assert signals.received is None
        signal.raise_signal(number)

        assert signals.received == number
    assert number.name in capsys.readouterr().err


def test_the_second_signal_stops_at_once(clock):
    with StopSignals(clock) as signals:
        signal.raise_signal(signal.SIGTERM)
        clock.now = 1.1

        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signals.received == signal.SIGTERM


def test_an_echo_of_the_same_signal_is_not_a_second_one(clock):
    with StopSignals(clock) as signals:
        signal.raise_signal(signal.SIGINT)
        clock.now = 0.9
        signal.raise_signal(signal.SIGINT)

        assert signals.received == signal.SIGINT


def test_afterwards_signals_do_what_they_did_before(clock):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def fail():
        with StopSignals(clock):
            assert signal.getsignal(signal.SIGTERM) != before[1]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_in_another_thread_nothing_is_taken_over(clock):
    handlers = []

    def enter():
        with StopSignals(clock):
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()

    assert handlers == [signal.getsignal(signal.SIGINT)]
