import math

from training.survival.continuation import Continuation

SAVED = Continuation(
    loss_since_log=0.1 + 0.2,
    loss_before_log=math.pi,
    last_logged_step=5,
    seconds=1.5,
    num_tokens=12,
    metrics={"entropy": [1 / 3]},
    complete=True,
    evaluation_due=True,
)


def test_what_is_saved_is_loaded_to_the_last_bit(tmp_path):
    SAVED.save(tmp_path, 0)

    assert Continuation.load(tmp_path, 0) == SAVED


def test_each_process_has_its_own(tmp_path):
    SAVED.save(tmp_path, 0)
    Continuation(seconds=2.0).save(tmp_path, 1)

    assert Continuation.load(tmp_path, 0) == SAVED
    assert Continuation.load(tmp_path, 1).seconds == 2.0


def test_a_process_that_was_not_there_before_goes_on_as_the_first(tmp_path):
    SAVED.save(tmp_path, 0)

    assert Continuation.load(tmp_path, 3) == SAVED
