import copy
import random

import pytest

from serving.kv_cache import BLOCK_TOKENS, CacheAllocator
from serving.sampling import SamplingParams
from serving.scheduler import Chunk, Job, Move, Scheduler


def make_job(prompt=4, new=4):
    return Job([7] * prompt, SamplingParams(max_new_tokens=new))


def make_scheduler(*jobs, cache=None, max_rows=4, budget=16):
    """One whose cache is no limit, unless it is given."""
    cache = cache or CacheAllocator(4096)
    scheduler = Scheduler(cache, max_rows=max_rows, prompt_tokens_per_step=budget)
    scheduler.waiting.extend(jobs)
    return scheduler


def read(scheduler):
    """Read what is planned for one step."""
    chunks = scheduler.plan_prompts()
    for chunk in chunks:
        scheduler.note_read(chunk)
    return chunks


def read_all(scheduler):
    while read(scheduler):
        pass


# Reading prompts


def test_a_short_prompt_is_read_at_once():
    job = make_job(prompt=10)
    scheduler = make_scheduler(job)

    [chunk] = read(scheduler)

    assert chunk == Chunk(job, 0, 10)
    assert chunk.is_last
    assert scheduler.rows == [job]
    assert (job.num_read, job.num_started) == (10, 1)


def test_a_long_prompt_is_read_over_several_steps():
    job = make_job(prompt=40)
    scheduler = make_scheduler(job, budget=16)

    chunks = [*read(scheduler), *read(scheduler)]
    assert (scheduler.reading, scheduler.rows) == ([job], [])
    assert (job.num_read, job.num_started) == (32, 0)
    chunks += read(scheduler)

    assert chunks == [Chunk(job, 0, 16), Chunk(job, 16, 16), Chunk(job, 32, 8)]
    assert [chunk.is_last for chunk in chunks] == [False, False, True]
    assert (scheduler.reading, scheduler.rows) == ([], [job])
    assert scheduler.plan_prompts() == []


def test_prompts_share_the_tokens_of_a_step():
    jobs = [make_job(prompt) for prompt in (5, 7, 9)]
    scheduler = make_scheduler(*jobs, budget=16)

    planned, first, second = scheduler.plan_prompts(), read(scheduler), read(scheduler)

    assert planned == first == [Chunk(jobs[0], 0, 5), Chunk(jobs[1], 0, 7), Chunk(jobs[2], 0, 4)]
    assert second == [Chunk(jobs[2], 4, 5)]


def test_a_prompt_that_takes_the_last_token_of_a_step_admits_nobody_behind_it():
    jobs = [make_job(prompt=16), make_job()]
    scheduler = make_scheduler(*jobs, budget=16)

    assert scheduler.plan_prompts() == [Chunk(jobs[0], 0, 16)]
    assert list(scheduler.waiting) == [jobs[1]]


def test_a_prompt_under_way_comes_before_a_new_one():
    jobs = [make_job(prompt=24), make_job(prompt=20)]
    scheduler = make_scheduler(*jobs, budget=16)
    read(scheduler)

    assert read(scheduler) == [Chunk(jobs[0], 16, 8), Chunk(jobs[1], 0, 8)]


# Admission


def test_whoever_reads_a_prompt_has_a_row_already():
    jobs = [make_job(prompt=2), make_job(prompt=20), make_job(prompt=2)]
    scheduler = make_scheduler(*jobs, max_rows=2)

    read(scheduler)
    assert (scheduler.rows, scheduler.reading) == (jobs[:1], jobs[1:2])
    read_all(scheduler)

    assert scheduler.rows == jobs[:2]
    assert scheduler.num_running == 2
    assert list(scheduler.waiting) == jobs[2:]


@pytest.mark.parametrize(("prompt", "new"), [(1, 1), (15, 1), (16, 1), (9, 90)])
def test_a_job_gets_cache_for_its_prompt_and_its_longest_answer(prompt, new):
    job = make_job(prompt, new)

    make_scheduler(job).plan_prompts()

    assert job.num_tokens_at_most == prompt + new
    assert 0 <= job.run.length - (prompt + new) < BLOCK_TOKENS


def test_nobody_overtakes_a_job_that_waits_for_cache():
    jobs = [make_job(new=28), make_job(new=60), make_job(new=4)]
    scheduler = make_scheduler(*jobs, cache=CacheAllocator(64))
    read_all(scheduler)
    assert scheduler.rows == jobs[:1]  # though there is room for the third

    scheduler.remove(jobs[0])
    read_all(scheduler)

    assert scheduler.rows == jobs[1:2]
    assert list(scheduler.waiting) == jobs[2:]


# Rows


def test_rows_are_taken_in_the_order_in_which_prompts_are_complete():
    jobs = [make_job(prompt=4), make_job(prompt=20), make_job(prompt=4)]
    scheduler = make_scheduler(*jobs, budget=16)

    rows = [scheduler.note_read(chunk) for _ in range(2) for chunk in scheduler.plan_prompts()]

    assert rows == [0, None, 1, 2]
    assert scheduler.rows == jobs


def test_the_last_row_fills_the_place_of_one_that_leaves():
    jobs = [make_job() for _ in range(4)]
    scheduler = make_scheduler(*jobs)
    read_all(scheduler)

    move = scheduler.remove(jobs[1])

    assert move == Move(source=3, target=1)
    assert scheduler.rows == [jobs[0], jobs[3], jobs[2]]


def test_nothing_moves_when_the_last_row_leaves():
    jobs = [make_job(), make_job()]
    scheduler = make_scheduler(*jobs)
    read_all(scheduler)

    assert [scheduler.remove(jobs[1]), scheduler.remove(jobs[0])] == [None, None]


@pytest.mark.parametrize("steps", [0, 1, 2], ids=["waiting", "reading", "generating"])
def test_a_job_can_be_taken_out_wherever_it_is(steps):
    cache = CacheAllocator(256)
    job = make_job(prompt=20)
    scheduler = make_scheduler(job, cache=cache)
    for _ in range(steps):
        read(scheduler)
    assert scheduler.num_running == min(steps, 1)

    scheduler.remove(job)

    assert [*scheduler.waiting, *scheduler.reading, *scheduler.rows] == []
    assert scheduler.plan_prompts() == []
    assert (job.run, cache.num_free) == (None, 256)


def test_a_job_taken_out_twice_gives_its_cache_back_once():
    cache = CacheAllocator(256)
    jobs = [make_job(), make_job()]
    scheduler = make_scheduler(*jobs, cache=cache)
    read_all(scheduler)

    scheduler.remove(jobs[0])
    assert scheduler.remove(jobs[0]) is None

    assert scheduler.rows == [jobs[1]]
    assert cache.num_free == 256 - jobs[1].run.length


def test_jobs_that_ask_for_the_same_are_not_taken_for_each_other():
    params = SamplingParams(seed=1)
    jobs = [Job([7], params), Job([7], params)]
    scheduler = make_scheduler(*jobs)

    scheduler.remove(jobs[1])

    assert [job is jobs[0] for job in scheduler.waiting] == [True]


# Against a simple model


class Model:
    """What a device would see: rows and places of the cache, each with its owner."""

    def __init__(self, num_tokens, max_rows, budget):
        self.cache = CacheAllocator(num_tokens)
        self.scheduler = make_scheduler(cache=self.cache, max_rows=max_rows, budget=budget)
        self.budget = budget
        self.owners = [None] * num_tokens
        self.rows = [None] * max_rows
        self.arrived, self.admitted, self.complete = [], [], []

    def add(self, job):
        self.arrived.append(job)
        self.scheduler.waiting.append(job)

    def remove(self, job):
        if job in self.scheduler.waiting:
            self.arrived.remove(job)
        move = self.scheduler.remove(job)
        self.owners = [None if owner is job else owner for owner in self.owners]
        self.rows = [None if owner is job else owner for owner in self.rows]
        if move is not None:
            assert self.rows[move.target] is None, "no row is used twice at a time"
            self.rows[move.target], self.rows[move.source] = self.rows[move.source], None

    def read(self):
        """Returns whether tokens were left over."""
        chunks = self.scheduler.plan_prompts()
        for chunk in chunks:
            assert chunk.length > 0
            self.admitted += [chunk.job] if chunk.start == 0 else []
            self.write(chunk.job, chunk.start, chunk.length)
            row = self.scheduler.note_read(chunk)
            if row is not None:
                assert self.owners.count(chunk.job) == len(chunk.job.prompt_ids)
                assert self.rows[row] is None, "no row is used twice at a time"
                self.rows[row] = chunk.job
                self.complete.append(chunk.job)
        num_read = sum(chunk.length for chunk in chunks)
        assert num_read <= self.budget
        return num_read < self.budget

    def generate(self):
        """Every row uses all of its cache before it leaves."""
        for job in list(self.scheduler.rows):
            self.write(job, len(job.prompt_ids) + job.num_started - 1, 1)
            job.num_started += 1
            if job.num_started > job.params.max_new_tokens:
                self.remove(job)

    def write(self, job, start, length):
        assert start + length <= job.run.length
        for place in range(job.run.start + start, job.run.start + start + length):
            assert self.owners[place] is None, "no place is used twice at a time"
            self.owners[place] = job

    def check(self):
        running = self.scheduler.reading + self.scheduler.rows
        idle = [None] * (len(self.rows) - len(self.scheduler.rows))
        assert self.rows == self.scheduler.rows + idle, "the rows in use are the first ones"
        assert self.scheduler.num_running == len(running) <= len(self.rows)
        assert self.cache.num_free + sum(job.run.length for job in running) == len(self.owners)

    def is_stuck(self):
        """Whether the first in line lacks a row or cache."""
        if not self.scheduler.waiting or self.scheduler.num_running == len(self.rows):
            return True
        wanted = self.scheduler.waiting[0].num_tokens_at_most
        return copy.deepcopy(self.cache).allocate(wanted) is None


@pytest.mark.parametrize("limits", [(256, 3, 8), (640, 8, 32), (384, 5, 100)])
@pytest.mark.parametrize("seed", range(2))
def test_rows_cache_and_turns_are_right_whatever_comes_and_goes(seed, limits):
    source = random.Random(seed)
    model = Model(*limits)
    scheduler = model.scheduler

    for step in range(1500):
        if step < 400 and source.random() < 0.3:
            model.add(make_job(source.randint(1, 90), source.randint(1, 40)))
        for job in [*scheduler.waiting, *scheduler.reading, *scheduler.rows]:
            if source.random() < 0.005:
                model.remove(job)
        if model.read():
            assert model.is_stuck(), "nobody waits without a reason"
        model.check()
        model.generate()
        model.check()

    assert model.admitted == model.arrived, "first in, first out"
    assert model.complete == [job for job in model.admitted if job in model.complete]
    assert len(model.complete) > 30
    assert [*scheduler.waiting, *scheduler.reading, *scheduler.rows] == []
    assert model.cache.num_free == len(model.owners) == model.owners.count(None)
