"""A graph rearranged, unless that fails or changes what it answers."""

import logging

import numpy as np
import onnxruntime as ort

from service.engine.jobs import Arrays, Outputs
from service.engine.restructured.restructure import restructure

logger = logging.getLogger(__name__)

# Of an output's standard deviation. Sums in another order differ by some 1e-5 of it, and what was
# taken for something else by all of it: our choice.
_TOLERANCE = 1e-2


class Arranger:
    """Rearranges one graph for several sessions, and holds each form against the graph itself.

    Patterns are recognised in graphs that others may have made. One that only looks like what it is
    taken for would answer wrongly and in silence, so that a look at noise decides.
    """

    def __init__(self, name: str, graph: bytes, tokens: int, feeds: Arrays | None) -> None:
        """
        Args:
            name: "selector" or "extractor", for the log.
            graph: of a verified bundle.
            tokens: N, of a view.
            feeds: inputs for a look at noise, some rows of it padded; None where the graph's
                weights lie outside it, so that it cannot be run by itself.
        """
        self._name, self._graph, self._tokens, self._feeds = name, graph, tokens, feeds
        self._expected: Outputs | None = None
        self._made = graph  # the last form that may be taken

    def arranged(self, *, on_gpu: bool, threads: int) -> bytes:
        """The graph for such a session; as it is in the bundle where rearranging fails."""
        try:
            made = restructure(self._graph, self._tokens, on_gpu=on_gpu, threads=threads)
            if made not in (self._graph, self._made) and self._feeds is not None:
                self._compare(made, self._feeds)
            self._made = made
        except Exception:
            logger.warning(
                "a graph is run as the bundle has it, which takes longer",
                extra={"graph": self._name},
                exc_info=True,
            )
            return self._graph
        return made

    def _compare(self, made: bytes, feeds: Arrays) -> None:
        """Raise ValueError where the answers differ."""
        if self._expected is None:
            self._expected = _run(self._graph, feeds)
        for ours, expected in zip(_run(made, feeds), self._expected, strict=True):
            difference = float(np.abs(ours - expected).max()) / max(float(expected.std()), 1e-6)
            if not difference <= _TOLERANCE:  # also catches NaN
                raise ValueError(f"rearranged, it answers differently, by {difference:.2g}")


def _run(graph: bytes, feeds: Arrays) -> Outputs:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return tuple(session.run(None, feeds))
