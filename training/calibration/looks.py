"""What a bundle gives of clips, by sparsity, looked at as its service looks at them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.reader import Bundle
from bundle.tokens import select_top_k, tokens_to_keep
from training.datasets import DataSet
from training.evaluation.bundles import Graphs, read_clips
from training.evaluation.statistics import Resampling


@dataclass(frozen=True, slots=True)
class Looks:
    """What was seen of n clips.

    Attributes:
        name: what figures call the clips.
        clips: those that could be read.
        logits: by sparsity, float32 [n, V, C].
        video: by sparsity, the video's vector, float32 [n, V, D]; empty where it is not known.
    """

    name: str
    clips: DataSet
    logits: dict[float, NDArray[np.float32]]
    video: dict[float, NDArray[np.float32]]

    @property
    def targets(self) -> NDArray[np.int64]:
        """The true labels: int64 [n]."""
        return np.array([entry.labels[0] for entry in self.clips.entries], np.int64)

    @property
    def resampling(self) -> Resampling:
        """How figures of these clips are resampled: by group."""
        return Resampling.of_groups([entry.group for entry in self.clips.entries])


def look(
    bundle: Bundle,
    dataset: DataSet,
    name: str,
    sparsities: Sequence[float],
    *,
    lost_share: float,
    track: Callable[[Iterable[int], int], Iterable[int]] = lambda clips, _: clips,
) -> Looks:
    """Show each clip to a bundle: decoded once, selected from once, looked at at each sparsity.

    Args:
        lost_share: how many of the clips may be unreadable; these are left out.
        track: as of :func:`training.evaluation.bundles.measure_bundle`.

    Raises:
        TooManyLost: more than that are unreadable.
        ValueError: no clip can be read, or a clip is no whole file.
    """
    graphs, tokens = Graphs(bundle), bundle.manifest.geometry.tokens
    read: list[int] = []
    logits: dict[float, list[NDArray[np.float32]]] = {sparsity: [] for sparsity in sparsities}
    video: dict[float, list[NDArray[np.float32]]] = {sparsity: [] for sparsity in sparsities}
    clips = read_clips(dataset, bundle.manifest, lost_share=lost_share, track=track)
    for number, views in clips:
        selected = graphs.select(views)
        for sparsity in sparsities:
            positions = select_top_k(selected["scores"], tokens_to_keep(sparsity, tokens))
            said, vector = graphs.extract(views, positions, selected.get("context"))
            logits[sparsity].append(said)
            video[sparsity].append(vector)
        read.append(number)
    return Looks(
        name,
        dataset.subset(read),
        {sparsity: np.stack(some) for sparsity, some in logits.items()},
        {sparsity: np.stack(some) for sparsity, some in video.items()},
    )
