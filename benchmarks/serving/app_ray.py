"""Ray Serve hosting the classifier: ``app_ray.py '{"port": 8002, ...}'``.

Set up as docs.ray.io/en/latest/serve advises: a core reserved for each replica
(advanced-guides/performance), ``max_ongoing_requests`` and ``max_queued_requests`` so that overload
is refused (configure-serve-deployment), ``request_timeout_s`` (advanced-guides/performance), and,
where asked for, ``serve.batch`` (advanced-guides/dyn-req-batch). Blocking work of a replica runs in
a thread, so that its event loop stays free (advanced-guides/asyncio-best-practices).
"""

import asyncio
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.serving.hosted import Classifier


class Replica:
    def __init__(self, configuration: dict[str, Any]) -> None:
        bundle = configuration["bundle"]
        self.classifier = Classifier(Path(bundle) if bundle else None, threads=1)
        self.batched = configuration["batch"] > 1
        # One thread: the replica has one core, and the classifier takes one caller.
        self.thread = ThreadPoolExecutor(1)

    async def __call__(self, request: Request) -> dict[str, str]:
        video, sparsity = await request.body(), float(request.query_params["sparsity"])
        loop = asyncio.get_running_loop()
        if self.batched:
            frames = await loop.run_in_executor(self.thread, self.classifier.decode, video)
            return {"label": await self.together((frames, sparsity))}
        return {"label": await loop.run_in_executor(self.thread, self.alone, video, sparsity)}

    def alone(self, video: bytes, sparsity: float) -> str:
        return self.classifier.classify([self.classifier.decode(video)], [sparsity])[0]

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.01)
    async def together(self, items: list[Any]) -> list[str]:
        frames, sparsities = zip(*items, strict=True)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.thread, self.classifier.classify, frames, sparsities)


def main() -> None:
    configuration = json.loads(sys.argv[1])
    workers, batch = configuration["workers"], configuration["batch"]
    ray.init(
        num_cpus=workers,
        include_dashboard=False,
        object_store_memory=128 * 1024 * 1024,
        log_to_driver=False,
        configure_logging=False,
    )
    serve.start(
        http_options={
            "host": "127.0.0.1",
            "port": configuration["port"],
            "request_timeout_s": configuration["deadline"],
        }
    )
    deployment = serve.deployment(
        Replica,
        num_replicas=workers,
        ray_actor_options={"num_cpus": 1},
        # Enough that a replica never waits for the proxy, few enough that none hoards.
        max_ongoing_requests=max(2, 2 * batch),
        max_queued_requests=configuration["queue"],
    )
    serve.run(deployment.bind(configuration), name="classify", route_prefix="/classify")
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
