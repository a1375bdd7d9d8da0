"""The cache of clips: its bound, and one piece of work for all who ask for it at once."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import RequestTimeout, ServiceError, Undecodable
from service.pipeline.cache import ByteCache, SingleFlight


def test_the_least_recently_used_goes_first() -> None:
    dropped: list[None] = []
    cache: ByteCache[str, int] = ByteCache(100, lambda: dropped.append(None))
    for name in "abc":
        cache.put(name, ord(name), 40 if name == "c" else 30)
    assert (len(cache), cache.bytes) == (3, 100)
    assert cache.get("a") == ord("a")
    cache.put("d", 1, 10)
    assert cache.get("b") is None, "a was used since"
    assert (cache.get("a"), cache.get("c"), cache.get("d")) == (ord("a"), ord("c"), 1)
    assert (cache.bytes, len(dropped)) == (80, 1)


def test_what_is_larger_than_all_of_it_drives_nothing_out() -> None:
    cache: ByteCache[str, int] = ByteCache(100)
    cache.put("a", 1, 60)
    cache.put("b", 2, 101)
    assert (cache.get("a"), cache.get("b"), cache.bytes) == (1, None, 60)
    cache.put("a", 1, 101)
    assert (cache.get("a"), cache.bytes) == (None, 0), "it has grown out of it"


def test_nothing_is_kept_where_nothing_may_be() -> None:
    cache: ByteCache[str, int] = ByteCache(0)
    cache.put("a", 1, 1)
    assert cache.get("a") is None


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60))))
def test_its_bytes_are_those_of_its_entries_and_within_the_bound(
    puts: list[tuple[int, int]],
) -> None:
    cache: ByteCache[int, int] = ByteCache(100)
    sizes: dict[int, int] = {}
    for key, size in puts:
        cache.put(key, size, size)
        sizes[key] = size
        found = {key: cache.get(key) for key in sorted(sizes)}
        assert cache.bytes == sum(size for size in found.values() if size is not None) <= 100
        assert found[key] == size, "what was put last is there"


class Work:
    """Work that goes on until it is told how to end; counts how often it was begun and ended."""

    def __init__(self) -> None:
        self.begun = self.cancelled = 0
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.begun += 1
        try:
            return await asyncio.shield(self.end)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_at_once_is_done_once() -> None:
    async def run() -> None:
        flights: SingleFlight[str, str] = SingleFlight()
        work = Work()
        asking = [asyncio.create_task(flights.run("k", work)) for _ in range(5)]
        other = asyncio.create_task(flights.run("another", work))
        await settle()
        assert work.begun == 2
        work.end.set_result("done")
        answers = await asyncio.gather(*asking)
        assert answers == [("done", True), *[("done", False)] * 4]
        assert await other == ("done", True)
        assert await flights.run("k", work) == ("done", True), "afterwards it is done anew"

    asyncio.run(run())


def test_the_first_may_leave() -> None:
    async def run() -> None:
        flights: SingleFlight[str, str] = SingleFlight()
        work = Work()
        first, second = (asyncio.create_task(flights.run("k", work)) for _ in range(2))
        await settle()
        first.cancel()
        await settle()
        assert first.cancelled()
        third = asyncio.create_task(flights.run("k", work))
        await settle()
        work.end.set_result("done")
        assert await second == await third == ("done", False)
        assert (work.begun, work.cancelled) == (1, 0)

    asyncio.run(run())


def test_when_all_have_left_it_ends_before_the_last_is_let_go() -> None:
    async def run() -> None:
        flights: SingleFlight[str, str] = SingleFlight()
        work = Work()
        asking = [asyncio.create_task(flights.run("k", work)) for _ in range(2)]
        await settle()
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        assert (work.begun, work.cancelled) == (1, 1)
        again = asyncio.create_task(flights.run("k", work))
        await settle()
        work.end.set_result("done")
        assert await again == ("done", True)

    asyncio.run(run())


def test_what_has_just_failed_is_not_waited_for() -> None:
    """A caller after the end, and before it is cleared away, begins anew."""

    async def run() -> None:
        flights: SingleFlight[str, str] = SingleFlight()
        moment = asyncio.Event()

        async def fail() -> str:
            await moment.wait()
            raise RequestTimeout(1)

        async def succeed() -> str:
            return "fresh"

        async def come_late() -> tuple[str, bool]:
            await moment.wait()  # woken in the same turn of the loop, right behind
            return await flights.run("k", succeed)

        first = asyncio.create_task(flights.run("k", fail))
        await settle()
        late = asyncio.create_task(come_late())
        await settle()
        moment.set()
        assert await late == ("fresh", True)
        with pytest.raises(RequestTimeout):
            await first

    asyncio.run(run())


@pytest.mark.parametrize(("error", "begun"), [(Undecodable, 1), (lambda: RequestTimeout(1), 3)])
def test_the_clips_fault_is_everybodys_a_deadline_is_the_firsts(
    error: Callable[[], ServiceError], begun: int
) -> None:
    async def run() -> None:
        flights: SingleFlight[str, str] = SingleFlight()
        count = 0

        async def fail() -> str:
            nonlocal count
            count += 1
            await asyncio.sleep(0.01)
            raise error()

        asking = [flights.run("k", fail) for _ in range(3)]
        errors = await asyncio.gather(*asking, return_exceptions=True)
        assert count == begun
        assert all(isinstance(found, ServiceError) for found in errors)
        for found in errors:
            found.headers["server-timing"] = "mine"
            assert sum("server-timing" in other.headers for other in errors) == 1
            del found.headers["server-timing"]

    asyncio.run(run())
