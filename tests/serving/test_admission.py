import dataclasses

import pytest

from adapters.manifest import check_adapter
from adapters.prompts import Message
from adapters.styles import Preset
from serving.admission import Admission
from serving.errors import InvalidRequestError
from serving.types import GenerationRequest
from tests.serving.conftest import LONG
from tests.serving.fakes import ask


@pytest.fixture
def make_admission(tiny, prompt):
    """Makes admissions; `presets` replace those of the styles."""

    def make(*, presets=None, kv_cache_tokens=10_000, **values):
        manifest = check_adapter(tiny.adapter).with_presets(presets or {})
        return Admission(tiny.config(**values), manifest, prompt, kv_cache_tokens=kv_cache_tokens)

    return make


@pytest.fixture
def admission(make_admission):
    return make_admission()


@pytest.fixture
def params_of(admission):
    """The settings that a request comes to have."""
    return lambda **settings: admission.admit(ask(**settings))[0].params


def refusal(admission, request):
    with pytest.raises(InvalidRequestError) as caught:
        admission.admit(request)
    return caught.value.field, str(caught.value)


# Styles and prompts


def test_the_prompt_is_that_of_the_style(admission, prompt):
    messages = (Message("user", "What?"), Message("assistant", "This."), Message("user", "Why?"))

    job, style = admission.admit(GenerationRequest(messages, style="long"))

    assert style == LONG
    assert job.prompt_ids == prompt.encode_prompt(messages, LONG.token)


def test_without_a_style_it_is_the_default_one(admission):
    job, style = admission.admit(ask())

    assert style.name == "short"
    assert job.prompt_ids == admission.admit(ask(style="short"))[0].prompt_ids


def test_an_unknown_style_is_refused_with_those_that_exist(admission):
    assert refusal(admission, ask(style="loud")) == (
        "style",
        "Unknown style 'loud'. Choose one of: short, long.",
    )


@pytest.mark.parametrize(
    "messages",
    [
        (),
        (Message("assistant", "I answer."),),
        (Message("system", "Be kind."), Message("user", "Why?")),
    ],
)
def test_messages_that_the_template_cannot_take_are_refused(admission, messages):
    assert refusal(admission, GenerationRequest(messages))[0] == "prompt"


def test_a_prompt_that_is_too_long_is_refused_with_the_numbers(make_admission):
    length = len(make_admission().admit(ask())[0].prompt_ids)

    make_admission(max_prompt_tokens=length).admit(ask())
    field, message = refusal(make_admission(max_prompt_tokens=length - 1), ask())

    assert field == "prompt"
    assert f"has {length} tokens; at most {length - 1} are accepted" in message


# Settings


def test_a_request_that_names_nothing_gets_the_preset(params_of):
    params = params_of(style="long")

    assert (params.temperature, params.top_p) == (0.8, 0.9)
    assert (params.min_new_tokens, params.max_new_tokens) == (6, 12)
    assert (params.top_k, params.stop, params.suppressed_ids) == (0, (), ())


def test_a_request_gets_what_it_names(params_of):
    settings = {
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 40,
        "min_new_tokens": 2,
        "max_new_tokens": 9,
        "seed": 2**63 - 1,
        "stop": ("\n", "STOP"),
    }

    params = params_of(style="long", **settings)

    assert {name: getattr(params, name) for name in settings} == settings


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ({"max_new_tokens": 3}, (3, 3)),  # whoever asks for less wants less
        ({"max_new_tokens": 30}, (6, 30)),
        ({"max_new_tokens": 6}, (6, 6)),
        ({"min_new_tokens": 20}, (20, 20)),
        ({"min_new_tokens": 2}, (2, 12)),
        ({"min_new_tokens": 0}, (0, 12)),
        ({"min_new_tokens": 4, "max_new_tokens": 4}, (4, 4)),
    ],
)
def test_one_limit_moves_the_other_out_of_its_way(params_of, asked, granted):
    params = params_of(style="long", **asked)

    assert (params.min_new_tokens, params.max_new_tokens) == granted


def test_a_temperature_of_zero_is_a_temperature(params_of):
    assert params_of(style="long", temperature=0.0).temperature == 0.0
    assert params_of(style="short", temperature=3.0).temperature == 3.0


def test_a_preset_without_sampling_is_greedy_whatever_its_temperature(make_admission):
    admission = make_admission(presets={"long": {"do_sample": False}})

    assert admission.admit(ask(style="long"))[0].params.temperature == 0.0


def test_a_seed_of_zero_is_a_seed_and_none_is_a_new_one_each_time(params_of):
    assert params_of(seed=0).seed == 0
    assert params_of().seed != params_of().seed


# Limits


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"min_new_tokens": -1}, "min_new_tokens"),
        ({"min_new_tokens": 5, "max_new_tokens": 4}, "min_new_tokens"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_field(admission, settings, field):
    found, message = refusal(admission, ask(**settings))

    assert found == field
    assert message.startswith(f"{field} must be ")


@pytest.mark.parametrize("field", ["max_new_tokens", "min_new_tokens"])
def test_more_tokens_than_the_server_allows_are_refused(make_admission, field):
    admission = make_admission(max_new_tokens=20)

    admission.admit(ask(**{field: 20}))

    message = "21 is over this server's limit of 20."
    assert refusal(admission, ask(**{field: 21})) == (field, message)


@pytest.mark.parametrize(
    ("most", "asked", "granted"),
    [(8, {}, (6, 8)), (4, {}, (4, 4)), (8, {"min_new_tokens": 7}, (7, 8))],
)
def test_the_server_s_limit_holds_for_presets_as_well(make_admission, most, asked, granted):
    params = make_admission(max_new_tokens=most).admit(ask(style="long", **asked))[0].params

    assert (params.min_new_tokens, params.max_new_tokens) == granted


def test_what_can_never_fit_into_the_cache_is_refused_with_the_numbers(make_admission):
    length = len(make_admission().admit(ask())[0].prompt_ids)
    admission = make_admission(kv_cache_tokens=length + 50)

    assert admission.admit(ask(max_new_tokens=50))[0].num_tokens_at_most == length + 50
    field, message = refusal(admission, ask(max_new_tokens=51))

    assert field == "max_new_tokens"
    assert f"{length} prompt tokens and up to 51 new ones" in message
    assert f"the {length + 50} tokens of this server's cache" in message


def test_presets_of_the_operator_are_used(make_admission):
    preset = dataclasses.asdict(Preset(1.25, 0.75, 3, 7))
    admission = make_admission(presets={"short": preset})

    params = admission.admit(ask())[0].params

    assert (params.temperature, params.top_p) == (1.25, 0.75)
    assert (params.min_new_tokens, params.max_new_tokens) == (3, 7)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("top_k", -1), ("top_k", 2**31), ("seed", -1), ("seed", 2**63), ("stop", ("a", ""))],
)
def test_what_no_device_can_compute_with_is_refused(admission, setting, value):
    field, _ = refusal(admission, ask(**{setting: value}))

    assert field == setting


# Scores


def test_no_scores_are_computed_for_whoever_does_not_ask(admission):
    job, _ = admission.admit(ask())

    assert (job.params.logprobs, job.scored) == (None, range(0))


@pytest.mark.parametrize("count", [0, 20])
def test_so_many_of_the_likeliest_tokens_are_reported_as_are_asked_for(params_of, count):
    assert params_of(logprobs=count).logprobs == count


@pytest.mark.parametrize("count", [-1, 21])
def test_more_of_the_likeliest_tokens_than_there_may_be_are_refused(admission, count):
    assert refusal(admission, ask(logprobs=count)) == ("logprobs", f"Must be 0 to 20, not {count}.")


@pytest.mark.parametrize("style", ["short", "long"])
def test_of_a_prompt_the_words_of_the_last_message_are_scored(admission, prompt, style):
    messages = (Message("user", "What?"), Message("assistant", "This."), Message("user", "Why so?"))

    job, _ = admission.admit(GenerationRequest(messages, style=style, prompt_logprobs=True))

    words = job.prompt_ids[job.scored.start : job.scored.stop]
    assert words == prompt.encode_words("Why so?")
    assert job.scored.start > 0


@pytest.mark.parametrize("style", ["short", "long"])
def test_a_prompt_can_be_scored_without_an_answer(admission, style):
    job, _ = admission.admit(ask(style=style, prompt_logprobs=True, max_new_tokens=0))

    assert (job.params.min_new_tokens, job.params.max_new_tokens) == (0, 0)
    assert job.num_tokens_at_most == len(job.prompt_ids)
