"""LitServe hosting the classifier: ``app_litserve.py '{"port": 8001, ...}'``.

Set up as lightning.ai/docs/litserve advises: on a CPU as many workers as cores
(api-reference/litserver, ``workers_per_device``), a timeout in seconds for what waits in the queue
(the same page, ``timeout``), and, where asked for, batches (features/batching). Bytes travel as
base64 in JSON, as in its own examples of images.
"""

import base64
import json
import os
import sys
from pathlib import Path

import litserve

from benchmarks.serving.hosted import Classifier, Frames

Item = tuple[Frames, float]


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        bundle = self.configuration["bundle"]
        self.classifier = Classifier(Path(bundle) if bundle else None, threads=1)

    # Without an annotation LitServe takes the body as JSON; any other becomes FastAPI's schema.
    def decode_request(self, request) -> Item:  # type: ignore[no-untyped-def]
        video = base64.b64decode(request["video"])
        return self.classifier.decode(video), float(request["sparsity"])

    def predict(self, item: Item) -> str:
        frames, sparsity = item
        return self.classifier.classify([frames], [sparsity])[0]

    def encode_response(self, output: str) -> dict[str, str]:
        return {"label": output}


class BatchedApi(Api):
    def batch(self, inputs: list[Item]) -> list[Item]:
        return inputs

    def predict(self, item: list[Item]) -> list[str]:  # type: ignore[override]
        frames, sparsities = zip(*item, strict=True)
        return self.classifier.classify(frames, sparsities)

    def unbatch(self, output: list[str]) -> list[str]:
        return output


def main() -> None:
    configuration = json.loads(sys.argv[1])
    if configuration["batch"] > 1:
        api = BatchedApi(max_batch_size=configuration["batch"], batch_timeout=0.01)
    else:
        api = Api()
    api.configuration = configuration
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=configuration["workers"],
        timeout=configuration["deadline"],
    )
    server.run(
        host="127.0.0.1",
        port=configuration["port"],
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
