"""Does a pair of graphs answer what the torch model answers?"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle.geometry import downscale, gather_patches
from bundle.schema import EXTRACTOR_WEIGHTS_FILE
from bundle.tokens import select_top_k, tokens_to_keep
from export.graphs import ExtractorGraph, NetworkGraph, example_inputs, network_inputs
from model.classifier import LookWhen
from model.selection import gather_tokens
from networks.network import VideoNetwork
from networks.selectors import ClipSelector

# On logits divided by their standard deviation where that exceeds one, in fp32.
TOLERANCE = 1e-4

# Dense, the trained range, and the least there is.
SPARSITIES = (0.0, 0.5, 0.7, 0.9, 0.95, 0.99)
# Of a network that nobody trained for subsets, and that may take minutes for a dense view.
NETWORK_SPARSITIES = (0.0, 0.5, 0.9)


class ParityError(Exception):
    """The graphs do not answer what the model answers; nothing is written."""


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison: what was compared, and the largest absolute difference."""

    what: str
    difference: float


class Sessions:
    """Both graphs in onnxruntime on the CPU."""

    def __init__(self, selector: bytes, extractor: bytes, weights: Path | None = None) -> None:
        """Build sessions; ``weights`` is the file in which the extractor keeps its own."""
        self.selector = _session(selector)
        self.extractor = _session(extractor, weights)

    def select(self, clip_small: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Scores and, where the graph gives it, context."""
        names = [output.name for output in self.selector.get_outputs()]
        order = [name for name in ("scores", "context") if name in names]
        found: list[NDArray[np.float32]] = self.selector.run(order, {"clip_small": clip_small})
        return found

    def extract(
        self,
        patches: NDArray[np.uint8],
        positions: NDArray[np.int64],
        lengths: NDArray[np.int64],
        *context: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits and video token; ``context`` where the graph takes one."""
        given = (patches, positions, lengths, *context)
        names = ("patches", "positions", "lengths", "context")
        logits, video = self.extractor.run(
            ["logits", "video"], dict(zip(names, given, strict=False))
        )
        return logits, video


def _session(graph: bytes, weights: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if weights is not None:
        # Mapped: onnxruntime copies what it needs while the session is built.
        content = np.memmap(weights, np.uint8, mode="r")
        options.add_external_initializers_from_files_in_memory(
            [EXTRACTOR_WEIGHTS_FILE], [content], [content.size]
        )
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True, slots=True)
class _Twin:
    """The torch side of a comparison.

    Attributes:
        frames, size, patch, tubelet, tokens: of a view.
        time, space: by how much smaller the selector sees it.
        sparsities: at which the extractor is compared.
        inputs: (batch, kept, seed) -> the selector's input, and the extractor's.
        selector, extractor: the modules that were exported; the selector gives a tuple.
        classify: (frames, clip_small, kept) -> logits, positions, scores: the whole way in torch.
    """

    frames: int
    size: int
    patch: int
    tubelet: int
    tokens: int
    time: int
    space: int
    sparsities: tuple[float, ...]
    inputs: Callable[[int, int, int], tuple[Tensor, tuple[Tensor, ...]]]
    selector: Callable[[Tensor], tuple[Tensor, ...]]
    extractor: nn.Module
    classify: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor, Tensor]]


def check(model: LookWhen, selector: bytes, extractor: bytes, *, seed: int = 0) -> list[Check]:
    """Compare graphs and model on random views at several K, batch sizes and mixed lengths.

    Returns:
        every comparison made, all within :data:`TOLERANCE`.

    Raises:
        ParityError: one is not, or a selection differs by more than a tie.
    """
    model = model.eval()
    config = model.config

    def classify(frames: Tensor, clip_small: Tensor, kept: int) -> tuple[Tensor, Tensor, Tensor]:
        found = model(frames, clip_small, kept)
        return found.logits, found.positions, found.scores

    twin = _Twin(
        config.frames, config.size, config.patch, 1, config.tokens, 2, 2, SPARSITIES,
        lambda batch, kept, seed: example_inputs(config, batch, kept, seed),
        model.selector, ExtractorGraph(model), classify,
    )  # fmt: skip
    return _compare(twin, Sessions(selector, extractor), seed)


def check_network(
    network: VideoNetwork,
    chooser: ClipSelector,
    selector: bytes,
    extractor: bytes,
    weights: Path | None = None,
    *,
    seed: int = 0,
) -> list[Check]:
    """:func:`check` for a published network and its selector.

    Args:
        network, chooser: what was exported.
        selector, extractor: the graphs.
        weights: the file in which the extractor's graph keeps its weights.
        seed: of the views.
    """
    network = network.eval()
    config = network.config

    def classify(frames: Tensor, clip_small: Tensor, kept: int) -> tuple[Tensor, Tensor, Tensor]:
        scores = chooser(clip_small)
        order = scores.sort(dim=1, descending=True, stable=True).indices
        positions = order[:, :kept].sort(dim=1).values
        patches = gather_tokens(network.tubelets(frames), positions)
        return network(patches, positions).logits, positions, scores

    small_frames, small_side, _, _ = chooser.given.shape
    twin = _Twin(
        config.frames, config.size, config.patch, config.tubelet, config.tokens,
        config.frames // small_frames, config.size // small_side, NETWORK_SPARSITIES,
        lambda batch, kept, seed: (
            chooser.given.example(batch, seed), network_inputs(config, batch, kept, seed)
        ),
        lambda clip_small: (chooser(clip_small),), NetworkGraph(network), classify,
    )  # fmt: skip
    return _compare(twin, Sessions(selector, extractor, weights), seed)


def _compare(twin: _Twin, sessions: Sessions, seed: int) -> list[Check]:
    with torch.inference_mode():
        checks = [
            *_selector(twin, sessions, seed),
            *_extractor(twin, sessions, seed),
            *_mixed_lengths(twin, sessions, seed),
            *_whole(twin, sessions, seed),
        ]
    worst = max(checks, key=lambda made: made.difference)
    if not worst.difference <= TOLERANCE:  # also catches NaN
        raise ParityError(
            f"{worst.what} differs by {worst.difference:.2e}, allowed are {TOLERANCE:.0e}"
        )
    return checks


def _selector(twin: _Twin, sessions: Sessions, seed: int) -> list[Check]:
    checks = []
    for batch in (1, 3):
        clip_small, _ = twin.inputs(batch, 1, seed + batch)
        expected = twin.selector(clip_small)
        ours = sessions.select(clip_small.numpy())
        for name, mine, theirs in zip(("scores", "context"), ours, expected, strict=False):
            checks.append(Check(f"selector {name}, batch {batch}", _scaled(mine, theirs)))
    return checks


def _extractor(twin: _Twin, sessions: Sessions, seed: int) -> list[Check]:
    checks = []
    for sparsity in twin.sparsities:
        kept = tokens_to_keep(sparsity, twin.tokens)
        for batch in (1, 2) if sparsity else (1,):
            _, inputs = twin.inputs(batch, kept, seed + kept)
            logits, video = twin.extractor(*inputs)
            ours, ours_video = sessions.extract(*(tensor.numpy() for tensor in inputs))
            where = f"K {kept}, batch {batch}"
            checks.append(Check(f"extractor logits, {where}", _scaled(ours, logits)))
            checks.append(Check(f"extractor video token, {where}", _scaled(ours_video, video)))
    return checks


def _mixed_lengths(twin: _Twin, sessions: Sessions, seed: int) -> list[Check]:
    """A row's result depends neither on its batch nor on what stands in its padding."""
    longest = tokens_to_keep(0.9, twin.tokens)
    lengths = [longest, max(1, longest // 3), 1]
    _, (patches, positions, _, *context) = twin.inputs(3, longest, seed)
    together, _ = sessions.extract(
        patches.numpy(),
        positions.numpy(),
        np.array(lengths, np.int64),
        *(tensor.numpy() for tensor in context),
    )
    checks = []
    for row, length in enumerate(lengths):
        alone = (
            patches[row : row + 1, :length],
            positions[row : row + 1, :length],
            torch.tensor([length]),
            *(tensor[row : row + 1] for tensor in context),
        )
        logits, _ = twin.extractor(*alone)
        name = f"row of {length} tokens padded to {longest} in a batch of 3"
        checks.append(Check(name, _scaled(together[row : row + 1], logits)))
    return checks


def _whole(twin: _Twin, sessions: Sessions, seed: int) -> list[Check]:
    """Clip to logits: the service's numpy path against the torch model's own."""
    generator = np.random.default_rng(seed)
    # Smooth pictures, as clips are: pure noise leaves every score the same.
    shape = (2, twin.frames, 8, 8, 3)
    coarse = generator.integers(0, 256, shape, dtype=np.uint8)
    block = -(-twin.size // 8)
    whole = np.kron(coarse, np.ones((1, 1, block, block, 1), np.uint8))
    frames = np.ascontiguousarray(whole[:, :, : twin.size, : twin.size])
    clip_small = downscale(frames, twin.time, twin.space)
    scores, *context = sessions.select(clip_small)
    checks = []
    for sparsity in (0.5, 0.9):
        kept = tokens_to_keep(sparsity, twin.tokens)
        positions = select_top_k(scores, kept)
        patches = gather_patches(frames, positions, twin.patch, twin.tubelet)
        lengths = np.full(len(frames), kept, np.int64)
        logits, _ = sessions.extract(patches, positions, lengths, *context)
        expected, theirs, their_scores = twin.classify(
            torch.from_numpy(frames), torch.from_numpy(clip_small), kept
        )
        _same_selection(positions, theirs.numpy(), their_scores.numpy())
        checks.append(Check(f"classification, K {kept}", _scaled(logits, expected)))
    return checks


def _same_selection(
    ours: NDArray[np.int64], theirs: NDArray[np.int64], scores: NDArray[np.float32]
) -> None:
    """Tokens chosen by only one side must score the same as those chosen by the other only."""
    for row in range(len(ours)):
        only_ours = np.setdiff1d(ours[row], theirs[row])
        only_theirs = np.setdiff1d(theirs[row], ours[row])
        if only_ours.size:
            gap = np.abs(np.sort(scores[row, only_ours]) - np.sort(scores[row, only_theirs])).max()
            if gap > TOLERANCE:
                raise ParityError(f"the selections differ by scores {gap:.2e} apart")


def _scaled(ours: NDArray[np.float32], theirs: Tensor) -> float:
    """Largest absolute difference, on values of unit scale."""
    expected = theirs.numpy()
    return float(np.abs(ours - expected).max() / max(1.0, float(expected.std())))
