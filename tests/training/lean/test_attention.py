"""Rows that lie end to end are attended to each by itself; on a CPU with a stand-in kernel."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM

from tests.tiny_base import make_tiny_base
from training.lean import attention


def plain_varlen(query, key, value, starts, _, longest, __, *, scale, window_size, enable_gqa):
    """What the kernel does, a row at a time in plain PyTorch, for the causal part of a window."""
    lengths = starts.diff().tolist()
    assert max(lengths) == longest
    assert window_size[1] == 0
    assert enable_gqa
    rows = []
    for q, k, v in zip(*(part.split(lengths) for part in (query, key, value)), strict=True):
        q, k, v = (part.transpose(0, 1) for part in (q, k, v))
        places = torch.arange(q.shape[1])
        behind = places[:, None] - places[None]
        seen = (behind >= 0) & (behind <= (window_size[0] if window_size[0] >= 0 else len(places)))
        row = scaled_dot_product_attention(q, k, v, seen, scale=scale, enable_gqa=True)
        rows.append(row.transpose(0, 1))
    return torch.cat(rows)


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setattr(attention, "varlen_attn", plain_varlen)
    model = AutoModelForCausalLM.from_pretrained(make_tiny_base(tmp_path / "base")).eval()
    model.set_attn_implementation(attention.BY_ROW)
    return model


def end_to_end(rows):
    """As TRL's collator lays them out."""
    lengths = torch.tensor([len(row) for row in rows])
    starts = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]).to(torch.int32)
    longest = int(lengths.max())
    return {
        "input_ids": torch.tensor([[token for row in rows for token in row]]),
        "position_ids": torch.cat([torch.arange(len(row)) for row in rows])[None],
        "cu_seq_lens_q": starts,
        "cu_seq_lens_k": starts,
        "max_length_q": longest,
        "max_length_k": longest,
    }


ROWS = [[5, 6, 7, 8, 9], [10], [7, 8, 9, 11, 12, 13, 14, 15]]


@torch.no_grad()
def test_rows_end_to_end_get_the_logits_they_get_alone(model):
    together = model(**end_to_end(ROWS)).logits[0]

    model.set_attn_implementation("sdpa")
    alone = torch.cat([model(input_ids=torch.tensor([row])).logits[0] for row in ROWS])
    assert torch.allclose(together, alone, atol=1e-5)


@torch.no_grad()
def test_padded_rows_are_attended_to_as_before(model):
    ids = torch.tensor([[0, 0, 0, *ROWS[0]], ROWS[2]])
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [1] * 8])
    found = model(input_ids=ids, attention_mask=mask).logits

    model.set_attn_implementation("sdpa")
    wanted = model(input_ids=ids, attention_mask=mask).logits
    assert torch.equal(found[mask.bool()], wanted[mask.bool()])


def test_answers_are_generated_as_before(model):
    asked = {"input_ids": torch.tensor([ROWS[0]]), "max_new_tokens": 8, "do_sample": False}
    found = model.generate(**asked)

    model.set_attn_implementation("sdpa")
    assert found.tolist() == model.generate(**asked).tolist()


def test_a_sliding_window_holds_the_token_itself_and_those_before_it(model):
    query = torch.randn(1, 2, 6, 8)
    starts = torch.tensor([0, 6], dtype=torch.int32)

    found, _ = attention.attend_within_rows(
        model, query, query, query, None, sliding_window=2, cu_seq_lens_q=starts, max_length_q=6
    )

    places = torch.arange(6)
    behind = places[:, None] - places[None]
    wanted = scaled_dot_product_attention(query, query, query, (behind >= 0) & (behind < 2))
    assert torch.allclose(found, wanted.transpose(1, 2), atol=1e-6)


def test_a_model_on_the_cpu_keeps_the_attention_of_transformers(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(make_tiny_base(tmp_path / "base"))

    assert not attention.use_attention_by_row(model)
    assert model.config._attn_implementation == "sdpa"
