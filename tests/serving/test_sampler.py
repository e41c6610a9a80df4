import dataclasses
import math

import pytest
import torch

from serving.sampler import NO_TOKEN, Rows, draw, keep_likeliest, sample, uniform
from serving.sampling import SamplingParams

EOS = 5
SPARE = 999
LOW = tuple(range(20))
GREEDY = SamplingParams()
WARM = SamplingParams(temperature=1.0, seed=3)
# Very different from each other, so that whatever one row took from another would show.
MIXED = [
    GREEDY,
    WARM,
    SamplingParams(temperature=0.1, top_p=0.95, seed=3),
    SamplingParams(temperature=0.7, top_p=0.9, min_new_tokens=4, seed=4),
    SamplingParams(temperature=2.0, top_k=4, seed=7),
    SamplingParams(temperature=1.0, top_k=6, top_p=0.6, suppressed_ids=(1, 2), seed=8),
    SamplingParams(min_new_tokens=3, suppressed_ids=(9,)),
] * 2
# What a chi-square of so many degrees of freedom exceeds one time in a million.
LIMITS = {1: 23.9, 2: 27.6, 3: 30.7, 4: 33.4, 5: 35.9, 255: 377.0}
LOGITS = [1.5, 0.2, -1.0, 0.9, -0.4, 0.0]


def make_rows(*params, first=0, vocab_size=40, suppressed_ids=()):
    rows = Rows(first + len(params), vocab_size, SPARE, torch.device("cpu"))
    suppressed = torch.zeros(vocab_size, dtype=torch.bool)
    suppressed[list(suppressed_ids)] = True
    rows.fill(first, [(one, 100 * number, 7) for number, one in enumerate(params)], suppressed)
    return rows


def choose(rows, logits, *, first=0, eos_ids=(EOS,)):
    """Ids of as many rows as there are logits; every row counts on, as in a step."""
    part = slice(first, first + len(logits))
    ids = sample(logits, rows.settings(part), torch.tensor(eos_ids))
    rows.num_generated[part] += rows.active[part]
    return ids.tolist()


def generate(params, logits, num_steps, *, first=0, suppressed_ids=()):
    """The ids of each row for the same logits at every step."""
    rows = make_rows(*params, first=first, suppressed_ids=suppressed_ids)
    return [*zip(*(choose(rows, logits, first=first) for _ in range(num_steps)), strict=True)]


def random_logits(num_rows, scale=2.0):
    return scale * torch.randn(num_rows, 40, generator=torch.Generator().manual_seed(0))


def is_likely(counts, shares):
    """Whether counts are what a chi-square test lets pass for drawn with these chances."""
    pairs = [(count, share * sum(counts)) for count, share in zip(counts, shares, strict=True)]
    terms = [(count - wanted) ** 2 / wanted for count, wanted in pairs if wanted > 0]
    assert sum(count for count, wanted in pairs if wanted > 0) == sum(counts)
    return sum(terms) < LIMITS[len(terms) - 1]


# What is chosen


def test_greedy_rows_take_the_likeliest_token_and_those_among_them_need_not():
    logits = random_logits(20)
    logits[:, EOS] = -9
    likeliest = logits.argmax(-1).tolist()
    hot, cold = SamplingParams(temperature=9.0, seed=1), SamplingParams(temperature=1e-6)

    ids = choose(make_rows(*[GREEDY, hot, cold, GREEDY] * 5), logits)

    agree = [one == other for one, other in zip(ids, likeliest, strict=True)]
    assert all(agree[::4] + agree[2::4] + agree[3::4])
    assert not all(agree[1::4])


def wanted_shares(params, banned):
    """The distribution by its definition, token by token."""
    weights = [math.exp(logit / params.temperature) for logit in LOGITS]
    order = sorted(set(range(len(LOGITS))) - banned, key=lambda token: -weights[token])
    order = order[: params.top_k or None]
    kept, wanted = [], params.top_p * sum(weights[token] for token in order)
    while sum(weights[token] for token in kept) < wanted * 0.9999999:
        kept.append(order[len(kept)])
    total = sum(weights[token] for token in kept)
    return [weights[token] / total if token in kept else 0 for token in range(len(LOGITS))]


@pytest.mark.parametrize("by", ["seed", "step"])
@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.0},
        {"temperature": 0.4},
        {"temperature": 1.0, "top_k": 3},
        {"temperature": 1.8, "top_p": 0.8},
        {"temperature": 1.5, "top_k": 4, "top_p": 0.7},
        {"temperature": 1.0, "top_k": 4, "suppressed_ids": (0,)},
        {"temperature": 1.5, "min_new_tokens": 2, "top_p": 0.9, "suppressed_ids": (3,)},
    ],
)
def test_tokens_come_as_often_as_their_probability_says(settings, by):
    params = SamplingParams(**settings, seed=11)
    seeds = range(5000) if by == "seed" else [11] * 5000
    rows = make_rows(*(dataclasses.replace(params, seed=seed) for seed in seeds), vocab_size=6)
    if by == "step":
        rows.num_generated[:5000] = torch.arange(100, 5100)

    ids = choose(rows, torch.tensor(LOGITS).expand(5000, -1))

    banned = {*params.suppressed_ids, *([EOS] if by == "seed" else [])}  # no answer begins with it
    assert is_likely([ids.count(token) for token in range(6)], wanted_shares(params, banned))


def test_logits_may_be_of_half_precision_and_are_left_as_they_were():
    logits = random_logits(2000).bfloat16()
    before = logits.clone()
    params = [SamplingParams(temperature=1.0, seed=seed) for seed in range(2000)]

    assert generate(params, logits, 3) == generate(params, before.float(), 3)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("params", [GREEDY, WARM])
@pytest.mark.parametrize(("value", "num"), [(math.nan, 1), (math.inf, 1), (-math.inf, 40)])
def test_logits_that_are_no_numbers_give_no_token_in_their_row_only(params, value, num):
    logits = random_logits(3)
    wanted = choose(make_rows(params, params, params), logits)
    logits[1, :num] = value

    assert choose(make_rows(params, params, params), logits) == [wanted[0], NO_TOKEN, wanted[2]]


# Tokens that may not come


def test_no_end_of_text_token_comes_sooner_than_the_minimum_or_first():
    logits = torch.zeros(4, 40)
    logits[:, [EOS, 6]] = 50
    params = [dataclasses.replace(one, min_new_tokens=low) for low in (0, 3) for one in MIXED[:2]]
    rows = make_rows(*params)

    steps = [choose(rows, logits, eos_ids=(EOS, 6)) for _ in range(5)]

    ended = [[token in (EOS, 6) for token in row].index(True) for row in zip(*steps, strict=True)]
    assert ended == [1, 1, 3, 3]


def test_suppressed_tokens_never_come_and_those_of_one_row_are_its_own():
    logits = torch.zeros(3, 40)
    logits[:, [0, 3]] = 50
    own = SamplingParams(temperature=1.0, suppressed_ids=(3, 39), seed=1)

    ids = generate([own, WARM, GREEDY], logits, 100, suppressed_ids=[0])

    assert {0, 3, 39}.isdisjoint(ids[0])
    assert set(ids[1]) == set(ids[2]) == {3}


# Rows apart


def test_rows_with_other_settings_do_not_change_a_row():
    logits = random_logits(len(MIXED))
    logits[:, EOS] += 3

    together = generate(MIXED, logits, 10, suppressed_ids=[1, 2])

    for row, params in enumerate(MIXED):
        [alone] = generate([params], logits[row : row + 1], 10, suppressed_ids=[1, 2])
        assert together[row] == alone


@pytest.mark.parametrize("row", [0, 7, 16])
def test_a_seed_gives_the_same_tokens_alone_and_among_sixteen_others_in_any_row(row):
    logits = random_logits(1, scale=0.5).expand(17, -1)
    one = SamplingParams(temperature=1.0, top_p=0.95, seed=1234)
    others = [SamplingParams(temperature=1.0) for _ in range(16)]

    [alone] = generate([one], logits[:1], 30, first=3)
    among = generate([*others[:row], one, *others[row:]], logits, 30)

    assert among[row] == alone
    assert among.count(alone) == 1  # or it would show nothing


# What is kept of every row


def test_a_row_that_moves_goes_on_as_it_began():
    logits = random_logits(1, scale=0.5).expand(9, -1)
    one = SamplingParams(temperature=1.0, top_k=30, min_new_tokens=9, suppressed_ids=LOW, seed=5)
    [wanted] = generate([one], logits[:1], 20)
    rows = make_rows(*[GREEDY] * 8, one)

    ids = [choose(rows, logits)[8] for _ in range(6)]
    rows.move(8, 2)
    ids += [choose(rows, logits[:8])[2] for _ in range(14)]

    assert tuple(ids) == wanted
    assert (rows.start[2], rows.position[2]) == (800, 7)


def test_columns_without_a_request_use_the_spare_place_and_do_not_count():
    rows = make_rows(*[WARM] * 3, first=1)
    rows.move(3, 1)
    rows.clear(2)

    choose(rows, torch.zeros(4, 40))

    assert rows.start.tolist() == [SPARE, 200, SPARE, SPARE, SPARE]  # one column more than rows
    assert rows.active.tolist() == [0, 1, 0, 0, 0]
    assert rows.num_generated.tolist() == [0, 1, 0, 0, 0]
    assert rows.position.tolist() == [0, 7, 0, 0, 0]


def test_a_column_forgets_the_request_before():
    logits = random_logits(1)
    [wanted] = generate([WARM], logits, 10)
    used = make_rows(SamplingParams(1.0, 0.5, 2, min_new_tokens=9, suppressed_ids=LOW))
    choose(used, logits)
    used.token[0] = 3
    used.fill(0, [(WARM, 100, 7)], torch.zeros(40, dtype=torch.bool))

    assert used.token[0] == 0
    assert [choose(used, logits) for _ in range(10)] == [[one] for one in wanted]


def test_settings_taken_once_show_what_is_filled_in_later_as_a_recorded_graph_needs_it():
    rows = make_rows(GREEDY, GREEDY)
    settings = rows.settings(slice(0, 2))

    rows.fill(1, [(MIXED[5], 0, 7)], torch.zeros(40, dtype=torch.bool))

    assert settings.top_k.tolist() == [0, 6]
    assert settings.temperature.tolist() == [0, 1]
    assert settings.suppressed[:, 1].tolist() == [False, True]


# The likeliest tokens


def test_every_row_keeps_as_few_of_the_likeliest_tokens_as_its_limits_allow():
    weights = torch.tensor([2.0, 6.0, 1.0, 4.0, 3.0]).expand(12, -1)
    top_k = torch.tensor([0, 0, 0, 0, 0, 0, 1, 3, 99, 2, 3, 4])
    top_p = torch.tensor([1.0, 0.375, 0.376, 0.625, 0.626, 0.001, 1.0, 1.0, 1.0, 0.5, 0.75, 0.5])

    kept = keep_likeliest(weights, top_p, top_k)

    # of the last three limits `top_p` is a share of what `top_k` has left
    wanted = torch.tensor([5, 1, 2, 2, 3, 1, 1, 3, 5, 1, 2, 2])
    places = torch.tensor([3, 0, 4, 1, 2])
    assert torch.equal(kept, weights.where(places < wanted[:, None], 0.0))


@pytest.mark.parametrize(("top_k", "top_p"), [(2, 1.0), (0, 0.5), (2, 0.01)])
def test_tokens_as_likely_as_the_last_one_stay(top_k, top_p):
    weights = torch.tensor([[1.0, 3.0, 3.0, 0.0, 3.0]])

    kept = keep_likeliest(weights, torch.tensor([top_p]), torch.tensor([top_k]))

    assert kept.tolist() == [[0, 3, 3, 0, 3]]


def test_a_number_says_where_on_the_line_of_all_weights_the_token_lies():
    numbers = torch.tensor([0.0, 0.24, 0.26, 0.74, 0.76, 1 - 2**-24, 1.0])
    weights = torch.tensor([0.0, 2.0, 0.0, 4.0, 2.0, 0.0]).expand(len(numbers), -1)

    assert draw(weights, numbers).tolist() == [1, 1, 3, 3, 4, 4, 4]


# Random numbers


def test_the_numbers_are_those_of_splitmix64():
    # published for the seed 1234567
    wanted = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]

    numbers = uniform(torch.tensor([1234567] * 4), torch.arange(4))

    assert numbers.tolist() == [(number >> 40) / 2**24 for number in wanted]


@pytest.mark.parametrize("first", [0, 2**63 - 257])
@pytest.mark.parametrize("step", [(1, 0), (0, 1), (1, 1), (1, -1)])
def test_numbers_are_uniform_and_know_nothing_of_their_neighbours(first, step):
    seeds = first + torch.arange(256).repeat_interleave(256)
    counters = 1 + torch.arange(256).repeat(256)

    numbers = uniform(seeds, counters)
    neighbours = uniform(seeds + step[0], counters + step[1])

    pairs = (numbers * 16).long() * 16 + (neighbours * 16).long()
    for kinds in ((numbers * 256).long(), pairs):
        assert is_likely(torch.bincount(kinds, minlength=256).tolist(), [1 / 256] * 256)
    assert abs(torch.corrcoef(torch.stack([numbers, neighbours]))[0, 1]) < 4 / 256
