import itertools
import random

import pytest
import torch

from serving.kv_cache import BLOCK_TOKENS, CacheAllocator, CacheRun, KVCache

BLOCK = BLOCK_TOKENS


class BlockMap:
    """The same promises as an allocator's, kept by looking at every block."""

    def __init__(self, num_tokens):
        self.taken = [False] * (num_tokens // BLOCK)

    def allocate(self, length):
        size = -(-length // BLOCK)
        for first in range(len(self.taken) - size + 1):
            if not any(self.taken[first : first + size]):
                self.taken[first : first + size] = [True] * size
                return CacheRun(first * BLOCK, size * BLOCK)
        return None

    def free(self, run):
        for block in range(run.start // BLOCK, run.end // BLOCK):
            self.taken[block] = False


def fill(allocator, *blocks):
    """Runs of so many blocks each."""
    return [allocator.allocate(number * BLOCK) for number in blocks]


# Runs


@pytest.mark.parametrize(
    ("asked", "blocks"), [(1, 1), (BLOCK - 1, 1), (BLOCK, 1), (BLOCK + 1, 2), (5 * BLOCK, 5)]
)
def test_a_run_is_as_many_whole_blocks_as_it_takes(asked, blocks):
    allocator = CacheAllocator(8 * BLOCK)

    run = allocator.allocate(asked)

    assert run == CacheRun(0, blocks * BLOCK)
    assert run.end == blocks * BLOCK
    assert allocator.num_free == (8 - blocks) * BLOCK


def test_runs_lie_behind_each_other():
    allocator = CacheAllocator(8 * BLOCK)

    first, second, third = fill(allocator, 2, 1, 3)

    assert (first.start, second.start, third.start) == (0, first.end, second.end)


def test_a_part_of_a_block_at_the_end_is_not_used():
    allocator = CacheAllocator(3 * BLOCK - 1)

    runs = fill(allocator, 1, 1, 1)

    assert allocator.num_tokens == 2 * BLOCK
    assert runs == [CacheRun(0, BLOCK), CacheRun(BLOCK, BLOCK), None]


@pytest.mark.parametrize("num_tokens", [0, 1, BLOCK - 1])
def test_a_pool_below_one_block_holds_nothing(num_tokens):
    allocator = CacheAllocator(num_tokens)

    assert allocator.num_free == 0
    assert not allocator.fits(1)
    assert allocator.allocate(1) is None


def test_the_whole_pool_can_be_one_run():
    allocator = CacheAllocator(4 * BLOCK)

    assert allocator.allocate(3 * BLOCK + 1) == CacheRun(0, 4 * BLOCK)
    assert allocator.num_free == 0


def test_what_an_empty_pool_could_hold_fits_however_full_the_pool_is():
    allocator = CacheAllocator(4 * BLOCK)
    fill(allocator, 4)

    assert allocator.fits(4 * BLOCK)
    assert not allocator.fits(4 * BLOCK + 1)
    assert allocator.allocate(1) is None


# Gaps


def test_a_run_is_not_put_together_from_several_gaps():
    allocator = CacheAllocator(5 * BLOCK)
    runs = fill(allocator, 1, 1, 1, 1, 1)
    for run in runs[::2]:
        allocator.free(run)

    refused = allocator.allocate(2 * BLOCK)

    assert refused is None
    assert allocator.num_free == 3 * BLOCK
    assert fill(allocator, 1, 1, 1, 1) == [*runs[::2], None]  # the refusal took nothing


def test_the_first_gap_that_is_long_enough_is_taken():
    allocator = CacheAllocator(12 * BLOCK)
    short, _, longer, _, _ = fill(allocator, 1, 1, 3, 1, 2)
    allocator.free(longer)
    allocator.free(short)

    found = fill(allocator, 2, 1, 2, 1)

    places = [run.start // BLOCK for run in found]
    assert places == [2, 0, 8, 4]


@pytest.mark.parametrize("order", [*itertools.permutations(range(4))])
def test_neighbours_become_one_gap_in_whatever_order_they_are_freed(order):
    allocator = CacheAllocator(10 * BLOCK)
    runs = fill(allocator, 1, 2, 3, 4)

    for number in order:
        allocator.free(runs[number])

    assert allocator.num_free == 10 * BLOCK
    assert allocator.allocate(10 * BLOCK) == CacheRun(0, 10 * BLOCK)


def test_a_freed_run_does_not_merge_across_a_run_in_use():
    allocator = CacheAllocator(3 * BLOCK)
    first, middle, last = fill(allocator, 1, 1, 1)
    allocator.free(first)
    allocator.free(last)

    assert allocator.allocate(2 * BLOCK) is None
    allocator.free(middle)
    assert allocator.allocate(3 * BLOCK) == CacheRun(0, 3 * BLOCK)


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_a_map_of_all_blocks(seed):
    source = random.Random(seed)
    num_tokens = source.randint(20 * BLOCK, 60 * BLOCK)
    allocator, blocks = CacheAllocator(num_tokens), BlockMap(num_tokens)
    held = []
    refusals = 0

    for _ in range(400):
        if held and source.random() < 0.45:
            run = held.pop(source.randrange(len(held)))
            allocator.free(run)
            blocks.free(run)
        else:
            length = source.randint(1, 9 * BLOCK)
            run = allocator.allocate(length)
            assert run == blocks.allocate(length)
            held += [] if run is None else [run]
            refusals += run is None
        assert allocator.num_free == blocks.taken.count(False) * BLOCK

    assert refusals > 20  # or the pool was too large to show anything


# Memory


def make_cache(dtype=torch.float32):
    return KVCache(
        num_layers=2,
        num_tokens=3 * BLOCK,
        num_heads=4,
        head_dim=8,
        dtype=dtype,
        device=torch.device("cpu"),
    )


def test_keys_and_values_have_a_place_for_every_token_of_every_layer():
    cache = make_cache(torch.bfloat16)

    for part in (cache.keys, cache.values):
        assert part.shape == (2, 3 * BLOCK + 1, 4, 8)
        assert part.dtype == torch.bfloat16


def test_the_spare_place_lies_behind_every_run():
    cache, allocator = make_cache(), CacheAllocator(3 * BLOCK)

    assert cache.spare == allocator.allocate(3 * BLOCK).end
    assert cache.keys[:, cache.spare].shape == (2, 4, 8)


def test_memory_starts_as_zeros_since_whatever_is_there_may_be_multiplied_by_zero():
    cache = make_cache()

    assert not cache.keys.any()
    assert not cache.values.any()


def test_keys_and_values_do_not_share_memory():
    cache = make_cache()

    cache.keys.fill_(1)

    assert not cache.values.any()
