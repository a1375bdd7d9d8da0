"""The two graphs as onnxruntime sessions, built from verified bytes on checked providers."""

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.engine.errors import EngineError


class Graphs:
    """A bundle's selector and extractor; every call blocks until its graph has run."""

    def __init__(
        self, selector: bytes, extractor: bytes, providers: Sequence[str], threads: int
    ) -> None:
        """Build both sessions.

        Raises:
            EngineError: a provider is not installed, or onnxruntime silently took another one.
        """
        self._selector = _session("selector", selector, providers, threads)
        self._extractor = _session("extractor", extractor, providers, threads)
        self.providers: tuple[str, ...] = tuple(self._extractor.get_providers())

    def select(
        self, clip_small: NDArray[np.uint8], options: ort.RunOptions | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Score every token of some views.

        Args:
            clip_small: uint8 [B, T/2, H/2, W/2, 3].
            options: onnxruntime's, with which a run can be ended from elsewhere.

        Returns:
            scores float32 [B, N], context float32 [B, P, D].
        """
        scores, context = self._selector.run(
            ["scores", "context"], {"clip_small": clip_small}, options
        )
        return scores, context

    def extract(
        self,
        patches: NDArray[np.uint8],
        positions: NDArray[np.int64],
        lengths: NDArray[np.int64],
        context: NDArray[np.float32],
        options: ort.RunOptions | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Look at the kept tokens of some views.

        Args:
            patches: uint8 [B, K, patch * patch * 3].
            positions: int64 [B, K].
            lengths: int64 [B], kept tokens of each row; the rest of a row is padding.
            context: float32 [B, P, D], the selector's.
            options: as in :meth:`select`.

        Returns:
            logits float32 [B, classes], video float32 [B, D].
        """
        feeds = {
            "patches": patches,
            "positions": positions,
            "lengths": lengths,
            "context": context,
        }
        logits, video = self._extractor.run(["logits", "video"], feeds, options)
        return logits, video


def _session(name: str, graph: bytes, wanted: Sequence[str], threads: int) -> ort.InferenceSession:
    installed = ort.get_available_providers()
    if absent := [provider for provider in wanted if provider not in installed]:
        raise EngineError(
            f"LOOKWHEN_EXECUTION_PROVIDERS asks for {', '.join(absent)}, but the installed "
            f"onnxruntime has only {', '.join(installed)}. Install the onnxruntime package for "
            "that device, or change the setting"
        )
    configuration = ort.SessionOptions()
    configuration.intra_op_num_threads = threads
    configuration.inter_op_num_threads = 1
    configuration.log_severity_level = 3
    # Threads that spin while idle take the CPUs that decoding needs.
    configuration.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(graph, configuration, providers=list(wanted))
    except Exception as error:  # onnxruntime's errors share no base but this
        raise EngineError(f"onnxruntime cannot load the {name}: {error}") from None
    used = session.get_providers()
    if missing := [provider for provider in wanted if provider not in used]:
        raise EngineError(
            f"LOOKWHEN_EXECUTION_PROVIDERS asks for {', '.join(missing)}, but onnxruntime runs the "
            f"{name} on {', '.join(used)}: the device or its libraries could not be used"
        )
    return session
