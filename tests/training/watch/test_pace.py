import pytest

from training.watch.pace import Pace


@pytest.fixture
def pace(clock):
    pace = Pace(clock)
    pace.begin(0)
    return pace


def steps(pace, clock, count, seconds=1.0):
    for _ in range(count):
        pace.step_begins()
        clock.tick(seconds)
        pace.step_ends()


def test_speed_is_counted_between_two_entries(pace, clock):
    steps(pace, clock, 5)
    first = pace.measure(5, 100, 500)
    steps(pace, clock, 5, seconds=2.0)
    second = pace.measure(10, 100, 1500)

    assert first.tokens_per_second == 100
    assert second.tokens_per_second == 100  # 1,000 tokens in 10 s
    assert second.seconds == 15


def test_an_evaluation_behind_an_entry_does_not_lower_the_speed(pace, clock):
    steps(pace, clock, 5)
    pace.measure(5, 100, 500)
    pace.pause()
    clock.tick(60)
    steps(pace, clock, 5)

    assert pace.measure(10, 100, 1000).tokens_per_second == 100


def test_a_checkpoint_between_two_entries_does_not_lower_the_speed(pace, clock):
    steps(pace, clock, 2)
    clock.tick(60)
    pace.pause()
    steps(pace, clock, 3)

    assert pace.measure(5, 100, 500).tokens_per_second == 100


def test_waiting_for_the_device_before_an_entry_is_work(pace, clock):
    steps(pace, clock, 5, seconds=0.0)
    clock.tick(5)

    assert pace.measure(5, 100, 500).tokens_per_second == 100


def test_waiting_for_rows_between_two_steps_is_work(pace, clock):
    steps(pace, clock, 2)
    clock.tick(8)
    steps(pace, clock, 2)

    assert pace.measure(4, 100, 1200).tokens_per_second == 100


def test_preparing_before_the_first_step_is_no_work(pace, clock):
    clock.tick(60)
    steps(pace, clock, 5)

    assert pace.measure(5, 100, 500).tokens_per_second == 100


def test_the_time_left_counts_evaluations_but_not_the_slow_first_steps(pace, clock):
    steps(pace, clock, 5, seconds=20.0)
    pace.measure(5, 105, None)
    steps(pace, clock, 10)
    clock.tick(10)

    assert pace.measure(15, 105, None).eta_seconds == 90 * 2


def test_the_first_entry_reckons_with_what_there_is(pace, clock):
    steps(pace, clock, 5, seconds=2.0)

    assert pace.measure(5, 10, None).eta_seconds == 10


def test_no_time_is_left_after_the_last_step(pace, clock):
    steps(pace, clock, 5)

    assert pace.measure(5, 5, None).eta_seconds == 0
    assert pace.measure(5, 5, None).eta_seconds is None  # nothing happened since


def test_without_steps_or_tokens_nothing_is_claimed(pace, clock):
    clock.tick(5)
    reading = pace.measure(0, 10, None)

    assert reading.tokens_per_second is None
    assert reading.eta_seconds is None


def test_no_time_at_all_is_no_endless_speed(pace):
    assert pace.measure(0, 10, 100).tokens_per_second is None


def test_a_resumed_run_counts_the_seconds_of_earlier_sessions(pace, clock):
    clock.tick(1000)
    pace.begin(50, seconds_before=300.0)
    steps(pace, clock, 10)
    reading = pace.measure(60, 100, 1000)

    assert reading.seconds == 310
    assert reading.tokens_per_second == 100
    assert reading.eta_seconds == 40
