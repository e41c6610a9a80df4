import random

import pytest

from serving.config import EngineConfig
from serving.core import EngineCore
from serving.sampling import SamplingParams
from serving.scheduler import Job
from tests.serving.fakes import HashModel, LaggingRunner, ScriptedModel, finish

EOS = 2
A, B, C = (10, 11, 12), (20, 21), (30,)
# Very different from each other, so that whatever one row took from another would show.
SETTINGS = [
    {"max_new_tokens": 12},
    {"temperature": 0.8, "top_p": 0.9, "min_new_tokens": 6, "max_new_tokens": 30, "seed": 1},
    {"temperature": 2.0, "max_new_tokens": 1, "seed": 2},
    {"temperature": 1.5, "top_k": 7, "max_new_tokens": 20, "seed": 3, "suppressed_ids": (9, 40)},
    {"temperature": 5.0, "max_new_tokens": 25, "seed": 4, "stop": ("e", "q ")},
    {"temperature": 0.3, "top_p": 0.5, "min_new_tokens": 15, "max_new_tokens": 15, "seed": 5},
]


@pytest.fixture
def crowd(caller):
    """Callers with prompts of all lengths and settings of all kinds, the same at every call."""

    def make(count, **settings):
        source = random.Random(0)
        prompts = [source.choices(range(7, 300), k=source.randint(1, 90)) for _ in range(count)]
        return [
            caller(ids, **SETTINGS[number % len(SETTINGS)], **settings)
            for number, ids in enumerate(prompts)
        ]

    return make


# How answers end


def test_every_answer_ends_at_its_own_end_or_its_own_limit(make_core):
    core = make_core(ScriptedModel({A: [50, 51, EOS, 52], B: [60], C: [70, 71]}))
    limits = [(A, 9), (B, 1), (C, 5), (A, 2)]

    outputs = core.run([Job(list(ids), SamplingParams(max_new_tokens=n)) for ids, n in limits])

    assert [(output.ids, output.finish_reason) for output in outputs] == [
        ([50, 51], "stop"),
        ([60], "length"),
        ([70, 71, 71, 71, 71], "length"),
        ([50, 51], "length"),
    ]


def test_texts_are_those_of_the_ids_without_white_space_around(make_core, prompt):
    script = [*prompt.encode_words(" A queue, please. \n"), EOS]
    core = make_core(ScriptedModel({A: script}))

    [output] = core.run([Job(list(A), SamplingParams())])

    assert (output.text, output.ids) == ("A queue, please.", script[:-1])


def test_no_answer_is_empty(make_core, caller):
    [end] = finish(make_core(HashModel(eos_every=1)), caller())

    assert (len(end.ids), end.finish_reason) == (1, "stop")


def test_an_answer_ends_in_front_of_a_stop_string(make_core, caller, prompt):
    words = prompt.encode_words("One two. STOP three")
    core = make_core(ScriptedModel({A: words}))

    silent, sink = caller(stop=("OOO", "STOP")), caller(stop=("STOP",), streams=True)

    [plain, streamed] = finish(core, silent, sink)

    assert (plain.text, plain.finish_reason) == ("One two.", "stop")
    assert streamed == plain
    assert ("".join(sink.pieces), silent.pieces) == ("One two.", [])
    assert prompt.decode(plain.ids).endswith("STOP")


def test_a_stop_string_within_the_minimum_is_let_pass(make_core, caller, prompt):
    words = prompt.encode_words("One. Two. Three.")
    core = make_core(ScriptedModel({A: words}))
    minimum = len(prompt.encode_words("One."))

    [end] = finish(core, caller(stop=(".",), min_new_tokens=minimum))

    assert end.text == "One. Two"


def test_pieces_come_while_the_answer_is_generated_and_make_up_its_text(make_core, caller, prompt):
    words = prompt.encode_words("One, two and three are numbers.")
    core = make_core(ScriptedModel({A: [*words, EOS]}))
    streaming = caller(streams=True)
    core.add(streaming.answer)

    for _ in range(6):
        core.step()

    assert len(streaming.pieces) >= 3
    assert not streaming.ends
    [end] = finish(core, silent := caller())
    assert "".join(streaming.pieces) == streaming.ends[0].text == end.text
    assert silent.pieces == []


# Who runs with whom


def test_seeded_answers_are_the_same_alone_and_among_sixteen_neighbours(make_core, crowd):
    core = make_core()

    together = finish(core, *crowd(17))

    assert together == [finish(core, caller)[0] for caller in crowd(17)]
    assert len({tuple(end.ids) for end in together}) > 12
    assert {end.finish_reason for end in together} == {"stop", "length"}


def test_streaming_changes_no_answer(make_core, crowd):
    streaming = crowd(40, streams=True)

    ends = finish(make_core(), *streaming)

    assert ends == finish(make_core(), *crowd(40))
    assert ["".join(caller.pieces) for caller in streaming] == [end.text for end in ends]


def test_requests_join_and_leave_between_the_steps_of_others(make_core, crowd):
    core = make_core(max_batch_size=5)
    callers = crowd(24)
    sizes = set()

    for caller in callers:
        core.add(caller.answer)
        core.step()
        sizes.add(core.num_running)
    finish(core)

    assert [caller.ends for caller in callers] == [[end] for end in finish(core, *crowd(24))]
    assert max(sizes) == 5
    assert len(sizes) > 2


def test_the_place_of_a_finished_request_is_taken_in_the_next_step(make_core, caller):
    core = make_core(max_batch_size=1)
    core.add(caller(max_new_tokens=2).answer)
    core.add(caller(B, max_new_tokens=9).answer)

    core.step()
    counts = [(core.num_running, core.num_waiting)]
    core.step()

    assert [*counts, (core.num_running, core.num_waiting)] == [(0, 1), (1, 0)]


def test_requests_wait_for_the_cache_and_are_all_answered(make_core, crowd):
    small = make_core(kv_cache_gb=2.6e-4)  # 256 tokens: three or four of them
    peak = []
    small._runner.model.hooks.append(lambda step: peak.append(small.num_running))

    ends = finish(small, *crowd(20))

    assert small.kv_cache_tokens == 256
    assert max(peak) < 10
    assert ends == finish(make_core(), *crowd(20))


def test_long_prompts_are_read_in_parts_while_others_generate(make_core, crowd, caller):
    core = make_core(prompt_tokens_per_step=16)
    sizes = []
    core._runner.model.hooks.append(lambda step: sizes.append((step.most_tokens, len(step.ids))))
    core.add(caller(C, min_new_tokens=40, max_new_tokens=40).answer)

    ends = finish(core, *crowd(12))

    assert ends == finish(make_core(), *crowd(12))
    reading = [index for index, (most, _) in enumerate(sizes) if most > 1]
    assert max(sizes[index][1] for index in reading) == 16
    assert all(sizes[index + 1][0] == 1 for index in reading)  # nobody waits for two parts


def test_who_comes_first_is_read_first(make_core, caller):
    core = make_core(max_batch_size=2)
    callers = [caller(max_new_tokens=4) for _ in range(6)]
    order = []
    for number, one in enumerate(callers):
        one.answer.on_end = lambda end, number=number: order.append(number)
        core.add(one.answer)

    finish(core)

    assert order == list(range(6))


# The engine's way in


def test_warming_up_leaves_nothing_behind(make_core, crowd):
    core = make_core()
    lines = []

    core.warm_up(lines.append)

    assert lines == ["answered a first request"]
    assert core.is_idle
    assert finish(core, *crowd(6)) == finish(make_core(), *crowd(6))


def test_a_core_tells_how_much_it_holds(make_core):
    core = make_core(max_batch_size=3, max_prompt_tokens=40, max_new_tokens=9)

    assert core.kv_cache_tokens == 3 * 64
    assert core.describe().startswith("cache for 192 tokens, ")


# Steps that overlap


@pytest.fixture
def lagging(put_in, monkeypatch):
    """Makes cores whose results are looked at while the next step runs."""
    monkeypatch.setattr("serving.core.Runner", LaggingRunner)
    return lambda model: EngineCore(put_in(model), EngineConfig(max_batch_size=4))


def test_results_are_looked_at_once_the_next_step_is_under_way(lagging, caller):
    core = lagging(HashModel())

    finish(core, caller(max_new_tokens=3, min_new_tokens=3))

    assert core._runner.events == [
        *("read", "generate"),
        *("generate", "look at read", "look at generate"),
        "look at generate",
    ]


def test_of_a_step_too_many_nothing_comes(lagging, caller):
    core = lagging(ScriptedModel({A: [50, 51, EOS, 52], B: [60], C: [70]}))
    sizes = []
    core._runner.model.hooks.append(lambda step: sizes.append(len(step.lengths)))

    ending, neighbour = finish(core, caller(streams=True), caller(B, max_new_tokens=7))

    assert (ending.ids, ending.finish_reason) == ([50, 51], "stop")
    assert neighbour.ids == [60] * 7
    assert sizes == [2, 2, 2, 2, 1, 1, 1]  # one step after the one that gave the end


def test_a_place_given_up_late_is_right_for_the_next_one(lagging, caller):
    """Who follows is read while the step too many of the one before has just been launched."""
    core = lagging(ScriptedModel({A: [50, EOS], B: [60], C: [70, 71, 72, EOS]}))
    followers = [caller(ids, max_new_tokens=9) for ids in (C, A, C, A, C)]

    ends = finish(core, *(caller(A) for _ in range(4)), caller(B, max_new_tokens=30), *followers)

    assert [end.ids for end in ends] == [[50]] * 4 + [[60] * 30] + [[70, 71, 72], [50]] * 2 + [
        [70, 71, 72]
    ]
