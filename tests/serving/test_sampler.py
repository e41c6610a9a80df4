import pytest
import torch

from adapters.styles import Preset
from serving.sampler import Sampler, SamplingParams, sample_top_p

EOS = 5
CPU = torch.device("cpu")
GREEDY = Preset(temperature=0.0, top_p=1.0, min_new_tokens=0, max_new_tokens=100)
WARM = Preset(temperature=1.0, top_p=1.0, min_new_tokens=0, max_new_tokens=100)
# Very different from each other, so that whatever one row took from another would show.
MIXED = [
    SamplingParams(preset, seed)
    for seed, preset in enumerate(
        [
            GREEDY,
            WARM,
            Preset(0.1, 0.95, 0, 32),
            Preset(0.7, 0.9, 64, 256),
            Preset(5.0, 1.0, 0, 8),
            Preset(1.5, 0.3, 2, 8),
            Preset(2.0, 0.9, 0, 8, do_sample=False),
            Preset(1.0, 0.01, 3, 8),
        ]
        * 2
    )
]


def make_sampler(rows, *, suppressed_ids=()):
    return Sampler(rows, eos_ids=[EOS], suppressed_ids=suppressed_ids, device=CPU)


def draw(rows, logits, steps, **settings):
    """Ids [steps][rows] for the same logits [rows, vocabulary] at every step."""
    sampler = make_sampler(rows, **settings)
    return [sampler.sample(logits, step).tolist() for step in range(steps)]


def random_logits(*shape, seed=0, scale=2.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def many(preset, num_rows=500):
    return [SamplingParams(preset, seed) for seed in range(num_rows)]


# Greedy rows


def test_a_greedy_row_takes_the_likeliest_token():
    logits = random_logits(50, 40)
    logits[:, EOS] = -9
    assert make_sampler(many(GREEDY, 50)).sample(logits, 0).tolist() == logits.argmax(-1).tolist()


@pytest.mark.parametrize(
    "preset", [Preset(0.0, 0.9, 0, 8), Preset(1.0, 0.9, 0, 8, do_sample=False)]
)
def test_temperature_zero_and_sampling_turned_off_are_both_greedy(preset):
    logits = random_logits(50, 40)
    logits[:, EOS] = -9
    rows = [*many(preset, 49), SamplingParams(WARM, 1)]  # one that samples, so that all paths run
    assert make_sampler(rows).sample(logits, 0).tolist()[:49] == logits.argmax(-1).tolist()[:49]


def test_a_very_low_temperature_is_as_good_as_greedy():
    logits = random_logits(50, 40)
    logits[:, EOS] = -9
    rows = many(Preset(1e-4, 1.0, 0, 8), 50)
    assert make_sampler(rows).sample(logits, 0).tolist() == logits.argmax(-1).tolist()


# The distribution


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.8])
def test_tokens_come_as_often_as_softmax_says(temperature):
    logits = torch.tensor([1.5, 0.2, -1.0, 0.9, -0.4, 0.0])
    rows = many(Preset(temperature, 1.0, 0, 8), 6000)
    expected = torch.softmax(logits / temperature, dim=-1) * len(rows)
    ids = make_sampler(rows).sample(logits.expand(len(rows), -1), 1)
    counts = torch.bincount(ids, minlength=6)
    assert float(((counts - expected) ** 2 / expected).sum()) < 20.5  # 1 in 1,000, 5 degrees


def test_the_tokens_of_one_row_come_as_often_as_softmax_says():
    logits = torch.tensor([[1.5, 0.2, -1.0, 0.9, -0.4, 0.0]])
    sampler = make_sampler([SamplingParams(WARM, 7)])
    ids = torch.cat([sampler.sample(logits, 1) for _ in range(4000)])
    expected = torch.softmax(logits[0], dim=-1) * len(ids)
    counts = torch.bincount(ids, minlength=6)
    assert float(((counts - expected) ** 2 / expected).sum()) < 20.5


def test_within_the_nucleus_the_proportions_stay():
    probabilities = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15, 0.0])
    rows = many(Preset(1.0, 0.8, 0, 8), 6000)
    ids = make_sampler(rows).sample(probabilities.log().expand(len(rows), -1), 1)
    counts = torch.bincount(ids, minlength=6)[[1, 3, 4]]
    expected = torch.tensor([0.4, 0.3, 0.15]) / 0.85 * len(rows)
    assert float(((counts - expected) ** 2 / expected).sum()) < 13.8  # 1 in 1,000, 2 degrees


@pytest.mark.parametrize(
    ("top_p", "nucleus"),
    [
        (0.01, {1}),
        (0.39, {1}),
        (0.41, {1, 3}),
        (0.69, {1, 3}),
        (0.71, {1, 3, 4}),
        (1.0, {*range(5)}),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p, nucleus):
    logits = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15]).log().expand(1001, -1)
    draws = torch.linspace(0, 1, 1001)
    ids = sample_top_p(logits, torch.full((1001,), top_p), draws)
    assert set(ids.tolist()) == nucleus


def test_no_draw_picks_a_token_that_has_no_probability():
    logits = random_logits(200, 64)
    logits[:, ::3] = -torch.inf
    # Just below 1 as a Python number, which is 1 in the precision of the device.
    draws = torch.full((200,), 1 - 2**-40)
    ids = sample_top_p(logits, torch.ones(200), draws)
    assert bool(logits.gather(1, ids[:, None]).isfinite().all())


# Tokens that may not come


def test_an_answer_never_begins_with_end_of_text():
    logits = torch.zeros(100, 8)
    logits[:, EOS] = 50
    for preset in (GREEDY, WARM):
        assert EOS not in make_sampler(many(preset, 100)).sample(logits, 0).tolist()


def test_end_of_text_comes_no_sooner_than_the_minimum():
    logits = torch.zeros(3, 8)
    logits[:, EOS] = 50
    rows = [SamplingParams(Preset(t, 1.0, low, 50), 1) for t, low in ((0, 4), (1, 4), (1, 2))]
    ended = [[token == EOS for token in step] for step in draw(rows, logits, 6)]
    assert ended == [[False] * 3] * 2 + [[False, False, True]] * 2 + [[True] * 3] * 2


def test_every_end_of_text_token_has_to_wait():
    logits = torch.zeros(1, 8)
    logits[:, [3, 6]] = 50
    rows = [SamplingParams(Preset(1.0, 1.0, 3, 50), 1)]
    sampler = Sampler(rows, eos_ids=[3, 6], suppressed_ids=[], device=CPU)
    ids = [sampler.sample(logits, step).item() for step in range(4)]
    assert {3, 6}.isdisjoint(ids[:3])
    assert ids[3] in (3, 6)


def test_suppressed_tokens_never_come():
    logits = torch.zeros(1000, 8)
    logits[:, [0, 3, 7]] = 50
    for preset in (GREEDY, WARM, Preset(9.0, 0.5, 2, 9)):
        ids = make_sampler(many(preset, 1000), suppressed_ids=[0, 3, 7]).sample(logits, 1)
        assert {0, 3, 7}.isdisjoint(ids.tolist())


def test_the_nucleus_is_taken_from_what_is_not_suppressed():
    logits = torch.tensor([0.90, 0.06, 0.04, 0.0, 0.0, 0.0]).log().expand(500, -1)
    rows = many(Preset(1.0, 0.5, 0, 9))
    ids = make_sampler(rows, suppressed_ids=[0]).sample(logits, 1)
    assert set(ids.tolist()) == {1}


# Rows apart


def test_rows_with_other_settings_do_not_change_a_row():
    logits = random_logits(len(MIXED), 40)
    logits[:, EOS] += 3
    together = draw(MIXED, logits, 10, suppressed_ids=[1, 2])
    for index, row in enumerate(MIXED):
        alone = draw([row], logits[index : index + 1], 10, suppressed_ids=[1, 2])
        assert [step[index] for step in together] == [step[0] for step in alone]


def test_the_same_seed_gives_the_same_tokens_alone_and_among_sixteen_others():
    logits = random_logits(17, 40, scale=0.5)
    one = SamplingParams(WARM, 1234)
    alone = [ids[0] for ids in draw([one], logits[8:9], 30)]
    others = [SamplingParams(WARM) for _ in range(16)]
    among = [ids[8] for ids in draw([*others[:8], one, *others[8:]], logits, 30)]
    assert among == alone
    assert len(set(alone)) > 5  # or it would show nothing


def test_another_seed_gives_other_tokens():
    logits = torch.zeros(2, 40)
    first, second = zip(
        *draw([SamplingParams(WARM, 1), SamplingParams(WARM, 2)], logits, 30), strict=True
    )
    assert first != second


def test_without_a_seed_no_two_rows_are_alike():
    logits = torch.zeros(2, 40)
    first, second = zip(
        *draw([SamplingParams(WARM), SamplingParams(WARM)], logits, 30), strict=True
    )
    assert first != second


def test_seed_zero_is_a_seed():
    logits = torch.zeros(1, 40)
    rows = [SamplingParams(WARM, 0)]
    assert draw(rows, logits, 30) == draw(rows, logits, 30)


def test_the_logits_of_the_model_are_left_as_they_were():
    logits = random_logits(4, 8)
    before = logits.clone()
    draw(MIXED[:4], logits, 3, suppressed_ids=[1])
    assert torch.equal(logits, before)


def test_logits_in_half_precision_are_sampled_in_full_precision():
    logits = random_logits(200, 40).bfloat16()
    rows = many(WARM, 200)
    halves, floats = draw(rows, logits, 2), draw(rows, logits.float(), 2)
    assert halves == floats
