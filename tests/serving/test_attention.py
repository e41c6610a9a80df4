import pytest
import torch

from serving.attention import StepInput, attend_by_row, supports_flash

HEAD_DIM = 8
PLACES = 64


def step_of(*rows):
    """The step of rows (start in the cache, position of the first id, ids)."""
    counts = [len(ids) for _, _, ids in rows]
    ends = [sum(counts[:number]) for number in range(len(rows) + 1)]
    positions = [list(range(first, first + len(ids))) for _, first, ids in rows]
    slots = [start + p for (start, _, _), part in zip(rows, positions, strict=True) for p in part]
    return StepInput(
        ids=torch.tensor([id_ for _, _, ids in rows for id_ in ids]),
        positions=torch.tensor([position for part in positions for position in part]),
        slots=torch.tensor(slots),
        ends=torch.tensor(ends, dtype=torch.int32),
        starts=torch.tensor([*(start for start, _, _ in rows), 0], dtype=torch.int32),
        lengths=torch.tensor([part[-1] + 1 for part in positions], dtype=torch.int32),
        most_tokens=max(counts),
    )


def random_inputs(step, num_heads, num_kv_heads):
    """Queries, keys and values; what no row owns is no number, so that reading it would show."""
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(len(step.ids), num_heads, HEAD_DIM, generator=generator)
    keys, values = torch.randn(2, PLACES, num_kv_heads, HEAD_DIM, generator=generator)
    owned = torch.zeros(PLACES, dtype=torch.bool)
    for start, length in zip(step.starts.tolist(), step.lengths.tolist(), strict=False):
        owned[start : start + length] = True
    keys[~owned] = values[~owned] = torch.nan
    return queries, keys, values


def attend_one_by_one(queries, keys, values, step):
    """The definition: every token and head on its own, over all keys up to its position."""
    output = torch.empty_like(queries)
    group = queries.shape[1] // keys.shape[1]
    for token, (position, slot) in enumerate(zip(step.positions, step.slots, strict=True)):
        seen = slice(slot - position, slot + 1)
        for head in range(queries.shape[1]):
            scores = keys[seen, head // group] @ queries[token, head] / HEAD_DIM**0.5
            output[token, head] = scores.softmax(0) @ values[seen, head // group]
    return output


ROWS = {
    "one token, the first": [(5, 0, [0])],
    "one token after others": [(5, 12, [0])],
    "a whole prompt": [(0, 0, [0] * 7)],
    "the next part of a prompt": [(16, 9, [0] * 5)],
    "one token each": [(40, 3, [0]), (0, 0, [0]), (16, 20, [0])],
    "prompts of several lengths": [(48, 0, [0] * 3), (0, 0, [0] * 11), (16, 0, [0])],
    "parts and single tokens": [(32, 6, [0] * 4), (0, 8, [0]), (16, 0, [0] * 9), (48, 0, [0])],
    "rows that fill the cache": [(32, 0, [0] * 32), (0, 31, [0])],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS.keys())
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)])
def test_every_token_sees_its_row_up_to_itself_and_nothing_else(rows, heads):
    step = step_of(*rows)
    queries, keys, values = random_inputs(step, *heads)

    found = attend_by_row(queries, keys, values, step)

    wanted = attend_one_by_one(queries, keys, values, step)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_attention_leaves_queries_and_cache_as_they_are():
    step = step_of((0, 0, [0] * 5), (16, 3, [0]))
    inputs = random_inputs(step, 4, 2)
    before = [part.clone() for part in inputs]

    attend_by_row(*inputs, step)

    for part, old in zip(inputs, before, strict=True):
        torch.testing.assert_close(part, old, atol=0, rtol=0, equal_nan=True)


def test_attention_in_half_precision_stays_in_it():
    step = step_of((0, 0, [0] * 5))
    queries, keys, values = (part.bfloat16() for part in random_inputs(step, 4, 2))

    found = attend_by_row(queries, keys, values, step)

    wanted = attend_one_by_one(queries.float(), keys.float(), values.float(), step)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, atol=3e-2, rtol=3e-2)


def test_the_last_tokens_are_those_that_end_each_row():
    step = step_of((0, 0, [7, 8, 9]), (16, 4, [5]), (32, 0, [6, 4]))
    assert step.last_tokens.tolist() == [2, 3, 5]
    assert step.ids[step.last_tokens].tolist() == [9, 5, 4]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_processor_has_no_flash_attention(dtype):
    assert not supports_flash(torch.device("cpu"), dtype, 64)


def test_flash_attention_does_not_compute_in_full_precision():
    assert not supports_flash(torch.device("cuda"), torch.float32, 64)


@pytest.mark.parametrize(
    ("capability", "head_dim", "supported"),
    [
        ((8, 0), 64, True),
        ((9, 0), 128, True),
        ((8, 0), 256, True),
        ((7, 5), 64, False),
        ((8, 0), 60, False),
        ((8, 0), 264, False),
    ],
)
def test_flash_attention_needs_an_ampere_gpu_and_heads_of_its_sizes(
    monkeypatch, capability, head_dim, supported
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert supports_flash(torch.device("cuda"), torch.bfloat16, head_dim) is supported
