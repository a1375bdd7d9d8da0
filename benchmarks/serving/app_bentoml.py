"""BentoML hosting the classifier: ``bentoml serve benchmarks.serving.app_bentoml:Classify``.

Set up as docs.bentoml.com advises: one worker for each core
(build-with-bentoml/parallelize-requests), ``traffic.timeout`` and ``traffic.max_concurrency``,
above which requests are refused (reference/bentoml/configurations), files as multipart uploads
(build-with-bentoml/iotypes), and, where asked for, adaptive batching
(get-started/adaptive-batching). What it is set to comes in the variable
``BENCHMARK_CONFIGURATION``, because BentoML imports this module in each worker.
"""

import base64
import json
import os
from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType
from pydantic import BaseModel

from benchmarks.serving.hosted import Classifier

CONFIGURATION: dict[str, Any] = json.loads(os.environ["BENCHMARK_CONFIGURATION"])

service = bentoml.service(
    workers=CONFIGURATION["workers"],
    resources={"cpu": str(CONFIGURATION["workers"])},
    traffic={
        "timeout": max(1, round(CONFIGURATION["deadline"])),
        "max_concurrency": CONFIGURATION["queue"],
    },
    # The classifier takes one caller at a time, and a worker has one core.
    threads=1,
)


class Item(BaseModel):
    """One clip of a batch; a batchable method takes lists, so that its bytes are base64."""

    video: str
    sparsity: float


def load() -> Classifier:
    bundle = CONFIGURATION["bundle"]
    return Classifier(Path(bundle) if bundle else None, threads=1)


if CONFIGURATION["batch"] > 1:

    @service
    class Classify:
        def __init__(self) -> None:
            self.classifier = load()

        @bentoml.api(
            batchable=True,
            max_batch_size=CONFIGURATION["batch"],
            max_latency_ms=round(1000 * CONFIGURATION["deadline"]),
        )
        def classify(self, items: list[Item]) -> list[str]:
            frames = [self.classifier.decode(base64.b64decode(item.video)) for item in items]
            return self.classifier.classify(frames, [item.sparsity for item in items])

else:

    @service
    class Classify:  # type: ignore[no-redef]
        def __init__(self) -> None:
            self.classifier = load()

        @bentoml.api
        def classify(
            self, video: Annotated[Path, ContentType("video/mp4")], sparsity: float
        ) -> dict[str, str]:
            frames = self.classifier.decode(video.read_bytes())
            return {"label": self.classifier.classify([frames], [sparsity])[0]}
