"""``python openvino_answers.py PRECISION``: how far OpenVINO's logits are from onnxruntime's own.

A program, because OpenVINO comes with an onnxruntime that takes the place of the other one.
Prints the first execution provider, and the widest difference in standard deviations of the logits.
"""

import json
import sys

import numpy as np

from bundle.built_in import default_bundle_path
from bundle.reader import read_bundle
from service.engine import Engine, EngineOptions
from service.engine.calibration import extractor_noise
from service.engine.options import CPU, OPENVINO


def main(precision: str) -> None:
    bundle = read_bundle(default_bundle_path())
    options = EngineOptions(execution_providers=(OPENVINO, CPU), precision=precision)  # type: ignore[arg-type]
    engine, single = Engine(bundle, options), Engine(bundle, EngineOptions())
    feeds = extractor_noise(bundle.manifest.geometry, [102, 60])
    ours, _ = engine.extractor.run(feeds)
    expected, _ = single.extractor.run(feeds)
    widest = np.abs(ours - expected).max() / expected.std()
    print(json.dumps({"provider": engine.providers[0], "widest": float(widest)}))
    engine.close()
    single.close()


if __name__ == "__main__":
    main(sys.argv[1])
