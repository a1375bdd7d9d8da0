"""Does a pair of graphs answer what the torch model answers?"""

from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle.geometry import downscale, gather_patches
from bundle.tokens import select_top_k, tokens_to_keep
from export.graphs import ExtractorGraph, example_inputs
from model.classifier import LookWhen

# On logits divided by their standard deviation where that exceeds one, in fp32.
TOLERANCE = 1e-4

# Dense, the trained range, and the least there is.
SPARSITIES = (0.0, 0.5, 0.7, 0.9, 0.95, 0.99)


class ParityError(Exception):
    """The graphs do not answer what the model answers; nothing is written."""


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison: what was compared, and the largest absolute difference."""

    what: str
    difference: float


class Sessions:
    """Both graphs in onnxruntime on the CPU."""

    def __init__(self, selector: bytes, extractor: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self.selector = onnxruntime.InferenceSession(selector, options, providers=providers)
        self.extractor = onnxruntime.InferenceSession(extractor, options, providers=providers)

    def select(self, clip_small: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        scores, context = self.selector.run(["scores", "context"], {"clip_small": clip_small})
        return scores, context

    def extract(
        self,
        patches: NDArray[np.uint8],
        positions: NDArray[np.int64],
        lengths: NDArray[np.int64],
        context: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], ...]:
        logits, video = self.extractor.run(
            ["logits", "video"],
            {"patches": patches, "positions": positions, "lengths": lengths, "context": context},
        )
        return logits, video


def check(model: LookWhen, selector: bytes, extractor: bytes, *, seed: int = 0) -> list[Check]:
    """Compare graphs and model on random views at several K, batch sizes and mixed lengths.

    Returns:
        every comparison made, all within :data:`TOLERANCE`.

    Raises:
        ParityError: one is not, or a selection differs by more than a tie.
    """
    model = model.eval()
    sessions = Sessions(selector, extractor)
    checks = [
        *_selector(model, sessions, seed),
        *_extractor(model, sessions, seed),
        *_mixed_lengths(model, sessions, seed),
        *_whole(model, sessions, seed),
    ]
    worst = max(checks, key=lambda made: made.difference)
    if not worst.difference <= TOLERANCE:  # also catches NaN
        raise ParityError(
            f"{worst.what} differs by {worst.difference:.2e}, allowed are {TOLERANCE:.0e}"
        )
    return checks


def _selector(model: LookWhen, sessions: Sessions, seed: int) -> list[Check]:
    checks = []
    for batch in (1, 3):
        clip_small, _ = example_inputs(model.config, batch, 1, seed + batch)
        with torch.no_grad():
            scores, context = model.selector(clip_small)
        ours, ours_context = sessions.select(clip_small.numpy())
        checks.append(Check(f"selector scores, batch {batch}", _scaled(ours, scores)))
        checks.append(Check(f"selector context, batch {batch}", _scaled(ours_context, context)))
    return checks


def _extractor(model: LookWhen, sessions: Sessions, seed: int) -> list[Check]:
    checks = []
    for sparsity in SPARSITIES:
        kept = tokens_to_keep(sparsity, model.config.tokens)
        for batch in (1, 2) if sparsity else (1,):
            _, inputs = example_inputs(model.config, batch, kept, seed + kept)
            with torch.no_grad():
                logits, video = ExtractorGraph(model)(*inputs)
            ours, ours_video = sessions.extract(*(tensor.numpy() for tensor in inputs))
            where = f"K {kept}, batch {batch}"
            checks.append(Check(f"extractor logits, {where}", _scaled(ours, logits)))
            checks.append(Check(f"extractor video token, {where}", _scaled(ours_video, video)))
    return checks


def _mixed_lengths(model: LookWhen, sessions: Sessions, seed: int) -> list[Check]:
    """A row's result depends neither on its batch nor on what stands in its padding."""
    longest = tokens_to_keep(0.9, model.config.tokens)
    lengths = [longest, max(1, longest // 3), 1]
    _, (patches, positions, _, context) = example_inputs(model.config, 3, longest, seed)
    together, _ = sessions.extract(
        patches.numpy(), positions.numpy(), np.array(lengths, np.int64), context.numpy()
    )
    checks = []
    for row, length in enumerate(lengths):
        alone = (
            patches[row : row + 1, :length],
            positions[row : row + 1, :length],
            torch.tensor([length]),
            context[row : row + 1],
        )
        with torch.no_grad():
            logits, _ = ExtractorGraph(model)(*alone)
        name = f"row of {length} tokens padded to {longest} in a batch of 3"
        checks.append(Check(name, _scaled(together[row : row + 1], logits)))
    return checks


def _whole(model: LookWhen, sessions: Sessions, seed: int) -> list[Check]:
    """Clip to logits: the service's numpy path against the torch model's own."""
    config = model.config
    generator = np.random.default_rng(seed)
    # Smooth pictures, as clips are: pure noise leaves every score the same.
    shape = (2, config.frames, 8, 8, 3)
    coarse = generator.integers(0, 256, shape, dtype=np.uint8)
    frames = np.kron(coarse, np.ones((1, 1, config.size // 8, config.size // 8, 1), np.uint8))
    clip_small = downscale(frames)
    scores, context = sessions.select(clip_small)
    checks = []
    for sparsity in (0.5, 0.9):
        kept = tokens_to_keep(sparsity, config.tokens)
        positions = select_top_k(scores, kept)
        patches = gather_patches(frames, positions, config.patch)
        lengths = np.full(len(frames), kept, np.int64)
        logits, _ = sessions.extract(patches, positions, lengths, context)
        with torch.no_grad():
            expected = model(torch.from_numpy(frames), torch.from_numpy(clip_small), kept)
        _same_selection(positions, expected.positions.numpy(), expected.scores.numpy())
        checks.append(Check(f"classification, K {kept}", _scaled(logits, expected.logits)))
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
