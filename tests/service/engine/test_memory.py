"""A device without memory: real graphs in a process that may take only so much."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.engine.token_limit import TokenLimit

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]

SCRIPT = """
import asyncio, resource, sys, time
from pathlib import Path
import numpy as np
import onnxruntime as ort
from bundle.built_in import default_bundle_path
from bundle.reader import read_bundle
from service.engine import Engine, EngineOptions, OutOfMemory

options = EngineOptions(intra_op_threads=1, max_concurrent_inferences=1, batching="always",
                        cpu_memory_arena=False, max_batch_tokens=16384, warm_up_seconds=0,
                        calibration_seconds=0)
events = []
quiet = ort.RunOptions()
quiet.log_severity_level = 4

class Observer:
    def batch_ran(self, stage, work, predicted, measured):
        events.append((stage, int(work.rows)))
    def job_waited(self, stage, seconds): pass
    def out_of_memory(self, stage):
        events.append((stage, "out of memory"))

engine = Engine(read_bundle(default_bundle_path()), options, Observer())
engine.calibrate([102], 102)

def rows(count):
    frames = np.random.default_rng(0).integers(0, 256, (1, 16, 128, 128, 3), np.uint8)
    return (np.broadcast_to(frames, (count, *frames.shape[1:])),
            np.tile(np.arange(1024), (count, 1)), np.zeros((count, 9, 192), np.float32))

def needed(count, limit):
    # Address space with which this number of dense rows runs, from `limit` upwards.
    _, positions, context = rows(count)
    feeds = {"patches": np.zeros((count, 1024, 768), np.uint8), "positions": positions,
             "lengths": np.full(count, 1024), "context": context}
    while True:
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        try:
            engine.extractor.run(feeds, quiet)
            return limit
        except Exception:
            limit += 5 * 2**20

def allow_two_rows():
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    # The first runs leave holes that later ones can use.
    two, four = [max(needed(count, taken) for _ in range(3)) for count in (2, 4)]
    limit = (two + four) // 2
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

async def extract(count):
    return await engine.extract(*rows(count), deadline=time.monotonic() + 100)

async def check():
    one = await extract(1)
    events.clear()
    allow_two_rows()
    events.clear()

    again = await extract(4)
    assert np.allclose(again.logits, one.logits, rtol=1e-4, atol=1e-4)
    assert events == [("extract", "out of memory"), ("extract", 2), ("extract", 2)], events
    assert engine.batch_tokens("extract") < 4096, engine.batch_tokens("extract")
    print("halved")

    events.clear()
    await extract(4)
    assert "out of memory" not in str(events), "the next one is not as large"
    print("remembered")

    events.clear()
    limits = engine._extract.limit
    limits.tokens = 16384
    try:
        await extract(14)
    except OutOfMemory:
        assert events == [("extract", "out of memory")] * 2 or len(events) == 3, events
    else:
        raise AssertionError("fourteen rows found room")
    assert engine.waiting == 0 and engine.cost.backlog_seconds() == 0
    print("refused")

    small = await extract(1)
    assert np.allclose(small.logits, one.logits, rtol=1e-4, atol=1e-4)
    assert engine.batch_tokens("select") == 16384
    print("usable")

asyncio.run(check())
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space of a process")
def test_running_out_of_memory_halves_then_refuses_and_recovers() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        # What is freed is given back at once, and no thread reserves addresses of its own.
        env={**os.environ, "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["halved", "remembered", "refused", "usable"]
    assert not done.stderr, "onnxruntime's own complaints would break a log of JSON"


def test_a_limit_shrinks_at_once_and_grows_slowly() -> None:
    limit = TokenLimit(6400, smallest=1000)
    limit.failed(6000)
    assert limit.tokens == 3000
    limit.succeeded(1000)
    assert limit.tokens == 3000, "a small run says nothing about large ones"
    for _ in range(10):
        limit.succeeded(2000)
    assert limit.tokens == 4000
    for _ in range(100):
        limit.succeeded(6000)
    assert limit.tokens == 6400, "never more than configured"
    for _ in range(10):
        limit.failed(6400)
    assert limit.tokens == 1000
    assert TokenLimit(500, smallest=1000).tokens == 500
