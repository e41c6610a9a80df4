import pytest

from serving.config import EngineConfig
from serving.core import EngineCore
from serving.errors import (
    DeadlineExceededError,
    DeviceLostError,
    EngineNotReadyError,
    GenerationError,
    RequestCancelledError,
)
from serving.sampling import SamplingParams
from serving.scheduler import Job
from tests.serving.conftest import SKULL
from tests.serving.fakes import (
    Breakdown,
    HashModel,
    LaggingRunner,
    LostRunner,
    Poison,
    ScriptedModel,
    assert_all_free,
    finish,
)

A, B, C = (10, 11, 12), (20, 21), (30,)


@pytest.fixture
def poison_id(prompt):
    """A token that stands in prompts only."""
    return prompt.encode_words(SKULL)[0]


def ends_of(callers):
    return [type(end) for caller in callers for end in caller.ends]


# Requests that are given up


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5])
def test_a_cancelled_request_is_gone_after_one_step(make_core, caller, steps):
    core = make_core(max_batch_size=2, prompt_tokens_per_step=20)
    neighbour = caller(B, max_new_tokens=30)
    doomed = caller([40] * 50, min_new_tokens=30, max_new_tokens=30, streams=True)
    third = caller(C, max_new_tokens=1)
    for one in (neighbour, doomed, third):
        core.add(one.answer)
    for _ in range(steps):
        core.step()

    doomed.cancelled = True
    core.step()

    assert ends_of([doomed]) == [RequestCancelledError]
    assert doomed.job not in [*core._scheduler.reading, *core._scheduler.rows]
    assert third.job.num_read == 1  # its place went to the next one in the same step
    finish(core)
    assert neighbour.ends == finish(core, caller(B, max_new_tokens=30))


def test_requests_past_their_deadline_are_ended_wherever_they_are(make_core, caller, clock):
    core = make_core(max_batch_size=2)
    patient = caller(max_new_tokens=30)
    hasty = [caller(B, deadline=clock.monotonic() + 60, max_new_tokens=30) for _ in range(2)]
    for one in (patient, *hasty):
        core.add(one.answer)
    core.step()
    assert (core.num_running, core.num_waiting) == (2, 1)

    clock.advance(61)
    core.step()

    assert ends_of(hasty) == [DeadlineExceededError] * 2
    assert (core.num_running, core.num_waiting) == (1, 0)
    finish(core)
    assert patient.ends == finish(core, caller(max_new_tokens=30))


def test_a_request_that_comes_too_late_never_reaches_the_model(make_core, caller, clock):
    core = make_core()
    core._runner.model.hooks.append(Poison(A[0]))

    [end] = finish(core, caller(A, deadline=clock.monotonic() - 1))

    assert isinstance(end, DeadlineExceededError)


# Requests that fail


@pytest.mark.parametrize("tokens_per_step", [1000, 24])
def test_a_prompt_that_fails_takes_no_neighbour_along(
    make_core, caller, poison_id, tokens_per_step
):
    core = make_core(prompt_tokens_per_step=tokens_per_step)
    core._runner.model.hooks.append(Poison(poison_id))
    prompts = [[50 + number] * (3 + 7 * number) for number in range(9)]
    for number in (0, 4, 5, 8):
        prompts[number][-1] = poison_id

    ends = finish(core, *(caller(ids, max_new_tokens=9) for ids in prompts))

    core._runner.model.hooks.clear()
    for ids, end in zip(prompts, ends, strict=True):
        if poison_id in ids:
            assert isinstance(end, GenerationError)
        else:
            assert [end] == finish(core, caller(ids, max_new_tokens=9))


def test_a_step_that_fails_takes_its_rows_and_nobody_else(make_core, caller):
    core = make_core(HashModel(), max_batch_size=3, prompt_tokens_per_step=20)
    rows = [caller(max_new_tokens=30) for _ in range(2)]
    others = [caller([40] * 50, max_new_tokens=5), caller(B, max_new_tokens=5)]
    for one in (*rows, *others):
        core.add(one.answer)

    core._runner.model.hooks.append(Breakdown(every=1))
    core.step()
    core._runner.model.hooks.clear()

    assert ends_of(rows) == [GenerationError] * 2
    assert ends_of(others) == []
    assert (core.num_running, core.num_waiting) == (1, 1)  # one reads, one waits
    finish(core)
    again = finish(core, caller([40] * 50, max_new_tokens=5), caller(B, max_new_tokens=5))
    assert [end for one in others for end in one.ends] == again


def test_a_row_without_valid_probabilities_fails_alone(make_core, caller):
    core = make_core(ScriptedModel({A: [50, None], B: [60], C: [None]}))

    ends = finish(core, caller(A), caller(B, max_new_tokens=5), caller(C))

    assert isinstance(ends[0], GenerationError)
    assert ends[1].ids == [60] * 5
    assert isinstance(ends[2], GenerationError)


def test_running_jobs_raises_the_first_failure_once_all_are_answered(make_core, poison_id):
    core = make_core()
    core._runner.model.hooks.append(Poison(poison_id))
    jobs = [Job(ids, SamplingParams(max_new_tokens=4)) for ids in ([1, 2], [poison_id], [3])]

    with pytest.raises(GenerationError):
        core.run(jobs)

    assert_all_free(core)
    assert [job.num_started for job in jobs] == [4, 0, 4]


@pytest.fixture
def make_lost_core(put_in, monkeypatch):
    monkeypatch.setattr("serving.core.Runner", LostRunner)
    return lambda: EngineCore(put_in(HashModel()), EngineConfig(max_batch_size=2))


@pytest.mark.parametrize("trouble", [Poison(C[0]), Breakdown(every=1)])
def test_a_lost_device_is_told_to_everybody_once(make_lost_core, caller, trouble):
    core = make_lost_core()
    callers = [caller(A), caller(B, streams=True), caller(C), caller(A)]
    for one in callers[:2]:
        core.add(one.answer)
    core.step()
    for one in callers[2:]:
        core.add(one.answer)
    callers[0].cancelled = True  # so that the third one is read

    core._runner.model.hooks.append(trouble)
    with pytest.raises(DeviceLostError):
        core.step()

    assert ends_of(callers) == [RequestCancelledError, *[DeviceLostError] * 3]
    assert core.is_idle
    assert (core.num_running, core.num_waiting) == (0, 0)


@pytest.mark.parametrize(
    ("is_lost", "error", "ends"),
    [(False, RuntimeError, []), (True, DeviceLostError, [DeviceLostError])],
)
def test_results_that_never_come_are_an_error_of_the_step(
    put_in, caller, monkeypatch, is_lost, error, ends
):
    """A device reports what went wrong in a step when its results are waited for."""
    monkeypatch.setattr("serving.core.Runner", LaggingRunner)
    core = EngineCore(put_in(HashModel()), EngineConfig())
    core.add((one := caller()).answer)
    core.step()
    [(tokens, _), *_] = core._pending

    def fail():
        raise RuntimeError("an illegal memory access was encountered")

    tokens.wait = fail
    core._runner.recover = fail if is_lost else core._runner.recover

    with pytest.raises(error):
        core.step()

    assert ends_of([one]) == ends


# Ending many at once


def test_those_who_wait_can_be_refused_while_the_others_are_answered(make_core, caller):
    core = make_core(max_batch_size=2)
    callers = [caller(max_new_tokens=5) for _ in range(5)]
    for one in callers:
        core.add(one.answer)
    core.step()

    core.fail_waiting(EngineNotReadyError("closing"))

    assert ends_of(callers[2:]) == [EngineNotReadyError] * 3
    assert (core.num_running, core.num_waiting) == (2, 0)
    assert finish(core) == []
    assert [len(one.ends[0].ids) for one in callers[:2]] == [5, 5]


def test_everybody_can_be_ended_without_a_step(make_core, caller):
    core = make_core(max_batch_size=2)
    callers = [caller(max_new_tokens=5) for _ in range(5)]
    for one in callers:
        core.add(one.answer)
    core.step()

    core.fail_all(DeviceLostError("gone"))

    assert ends_of(callers) == [DeviceLostError] * 5
    assert core.is_idle
