"""What the rivals host: the service's own decoding, and the bundle's two sessions.

They differ from the service, and from each other, in what is around it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from benchmarks.decoding import decode, plan_for
from benchmarks.feeds import extractor_feeds, selector_feeds, selector_outputs
from bundle.built_in import default_bundle_path
from bundle.reader import read_bundle
from bundle.schema import EXTRACTOR_WEIGHTS_FILE
from bundle.tokens import select_top_k, tokens_to_keep

Frames = NDArray[np.uint8]


class Classifier:
    """A bundle in this process, for one caller at a time."""

    def __init__(self, bundle: Path | None = None, threads: int = 1) -> None:
        """Load a bundle, by default the built-in one.

        Args:
            threads: of one inference; a server of several workers gives each its share.

        Raises:
            bundle.reader.BundleError: it cannot be used.
        """
        torch.set_num_threads(1)  # decoding resizes with torch, as the service's workers do
        found = read_bundle(bundle or default_bundle_path())
        self.manifest = found.manifest
        self._plan = plan_for(found.manifest, "1x1")
        self._selector = _session(found.selector, threads)
        self._extractor = _session(found.extractor, threads, found.extractor_weights)

    def decode(self, video: bytes) -> Frames:
        """uint8 [1, T, H, W, 3]: one view, as the service takes unless it is asked for more."""
        return decode(video, self._plan)

    def classify(self, frames: Sequence[Frames], sparsities: Sequence[float]) -> list[str]:
        """Label clips of one view each, all in one batch: rows are padded to the longest.

        Args:
            frames: uint8 [1, T, H, W, 3] of each clip.
            sparsities: of each clip.
        """
        geometry = self.manifest.geometry
        views = np.concatenate(frames)
        scores, *context = self._selector.run(
            list(selector_outputs(self.manifest)), selector_feeds(self.manifest, views)
        )
        kept = [tokens_to_keep(sparsity, geometry.tokens) for sparsity in sparsities]
        positions = np.zeros((len(views), max(kept)), np.int64)
        for row, k in enumerate(kept):
            positions[row, :k] = select_top_k(scores[row : row + 1], k)[0]
        lengths = np.array(kept, np.int64)
        feeds = extractor_feeds(self.manifest, views, positions, lengths, *context)
        (logits,) = self._extractor.run(["logits"], feeds)
        return [self.manifest.labels[index] for index in logits.argmax(axis=1)]


def _session(
    graph: bytes, threads: int, weights: bytes | None = None
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    if weights is not None:  # of a network over protobuf's 2 GiB
        options.add_external_initializers_from_files_in_memory(
            [EXTRACTOR_WEIGHTS_FILE], [weights], [len(weights)]
        )
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # As the service sets it: it is the better choice for all who share CPUs with decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
