"""Smaller micro-batches when memory runs out, with a device that is only pretended."""

import weakref

import pytest

from training.survival.out_of_memory import halve_micro_batch, with_fitting_micro_batch

pytestmark = pytest.mark.slow  # collecting all garbage of a test process takes its time


class Device:
    """Holds so many rows, and notes what it was asked to hold."""

    def __init__(self, room):
        self.room = room
        self.asked = []

    def attempt(self, rows):
        from torch import OutOfMemoryError

        self.asked.append(rows)
        if rows > self.room:
            raise OutOfMemoryError(f"CUDA out of memory: {rows} rows\nand a page of advice")
        return f"trained {rows} at once"


def test_what_fits_is_tried_once():
    device = Device(room=16)

    assert with_fitting_micro_batch(device.attempt, 16) == "trained 16 at once"
    assert device.asked == [16]


def test_what_does_not_fit_is_halved_until_it_does_and_told(caplog):
    device = Device(room=5)

    assert with_fitting_micro_batch(device.attempt, 16) == "trained 4 at once"
    assert device.asked == [16, 8, 4]
    assert "with 16 rows at once, going on with 8: CUDA out of memory: 16 rows" in caplog.text
    assert "page of advice" not in caplog.text


def test_when_nothing_fits_the_message_says_what_saves_memory():
    device = Device(room=0)

    with pytest.raises(ValueError, match="gradient_checkpointing") as refusal:
        with_fitting_micro_batch(device.attempt, 4)

    assert device.asked == [4, 2, 1]
    assert "1 rows at once" in str(refusal.value)


def test_the_smallest_micro_batch_is_respected():
    device = Device(room=0)

    with pytest.raises(ValueError, match="cannot be halved"):
        with_fitting_micro_batch(device.attempt, 4, smallest=2)

    assert device.asked == [4, 2]


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_odd_micro_batches_are_not_halved(rows):
    with pytest.raises(ValueError, match=f"{rows} rows at once"):
        halve_micro_batch(rows)


def test_other_errors_are_not_taken_for_it():
    def attempt(rows):
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        with_fitting_micro_batch(attempt, 4)


def test_what_a_failed_attempt_held_is_let_go_before_the_next():
    from torch import OutOfMemoryError

    class Model:
        pass

    held = []

    def attempt(rows):
        if held:
            assert held[0]() is None
            return rows
        model = Model()
        model.itself = model  # only the collector can free it
        held.append(weakref.ref(model))
        raise OutOfMemoryError("full")

    assert with_fitting_micro_batch(attempt, 4) == 2
