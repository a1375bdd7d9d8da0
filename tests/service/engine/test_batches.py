"""Which rows go into one run."""

import asyncio
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.batches import BatchRules, form_batch
from service.engine.jobs import Job


def unbounded(tokens: int) -> int:
    return 1_000_000


def rules(
    max_tokens: int = 1000,
    max_padding_ratio: float = 0.2,
    max_rows: Callable[[int], int] = unbounded,
) -> BatchRules:
    return BatchRules(max_tokens, max_padding_ratio, max_rows)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def queue(loop: asyncio.AbstractEventLoop, *jobs: tuple[int, int]) -> list[Job]:
    """Jobs of (rows, tokens), in the order of their deadlines."""
    return [
        Job({"x": np.zeros((rows, 1))}, rows, tokens, deadline, loop.create_future(), 0.0)
        for deadline, (rows, tokens) in enumerate(jobs)
    ]


def taken(jobs: list[Job]) -> list[int]:
    return [job.taken for job in jobs]


def test_equal_lengths_first_wherever_they_stand(loop: asyncio.AbstractEventLoop) -> None:
    jobs = queue(loop, (1, 100), (1, 90), (3, 100), (1, 100))
    parts = form_batch(jobs, rules(max_tokens=500))
    assert [(part.job, part.start, part.stop) for part in parts] == [
        (jobs[0], 0, 1),
        (jobs[2], 0, 3),
        (jobs[3], 0, 1),
    ]


def test_others_only_as_far_as_padding_stays_small(loop: asyncio.AbstractEventLoop) -> None:
    jobs = queue(loop, (2, 100), (4, 70), (1, 10), (1, 95))
    form_batch(jobs, rules())
    # Two of 100 and four of 70 are 120 of 600 padding, a fifth; 10 would be too much, 95 is not.
    assert taken(jobs) == [2, 4, 0, 1]


def test_longer_rows_come_in_when_they_are_many(loop: asyncio.AbstractEventLoop) -> None:
    one, many = queue(loop, (1, 50), (1, 100)), queue(loop, (1, 50), (4, 100))
    form_batch(one, rules())
    form_batch(many, rules())
    assert taken(one) == [1, 0], "a quarter would be padding"
    assert taken(many) == [1, 4], "a tenth is"


def test_a_job_is_split_and_the_rest_comes_next(loop: asyncio.AbstractEventLoop) -> None:
    jobs = queue(loop, (7, 100), (1, 100))
    sizes = []
    while waiting := [job for job in jobs if job.left]:
        sizes.append(sum(part.rows for part in form_batch(waiting, rules(max_tokens=300))))
    assert sizes == [3, 3, 2]


def test_a_single_row_may_exceed_the_limit(loop: asyncio.AbstractEventLoop) -> None:
    jobs = queue(loop, (2, 5000))
    form_batch(jobs, rules())
    assert taken(jobs) == [1]


def test_rows_that_are_not_worth_it_run_alone(loop: asyncio.AbstractEventLoop) -> None:
    jobs = queue(loop, (1, 100), (1, 100), (1, 30))
    form_batch(jobs, rules(max_rows=lambda tokens: 1))
    assert taken(jobs) == [1, 0, 0]


@given(
    jobs=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 400)), min_size=1, max_size=12),
    max_tokens=st.integers(1, 2000),
    padding=st.floats(0, 0.5),
    most=st.integers(1, 16),
)
def test_every_batch_keeps_the_rules(
    jobs: list[tuple[int, int]], max_tokens: int, padding: float, most: int
) -> None:
    loop = asyncio.new_event_loop()
    waiting = queue(loop, *jobs)
    made = rules(max_tokens, padding, lambda tokens: most)
    seen: dict[Job, list[int]] = {job: [] for job in waiting}
    while waiting:
        parts = form_batch(waiting, made)
        assert parts[0].job is waiting[0], "nobody is passed over"
        lengths = [part.job.tokens for part in parts for _ in range(part.rows)]
        cost = len(lengths) * max(lengths)
        assert len(lengths) == 1 or cost <= max_tokens
        assert len(lengths) <= most
        assert cost - sum(lengths) <= padding * cost
        for part in parts:
            seen[part.job] += range(part.start, part.stop)
        waiting = [job for job in waiting if job.left]
    assert all(rows == list(range(job.rows)) for job, rows in seen.items()), "each row once"
    loop.close()
