"""What a bundle gives of clips, by sparsity, looked at as its service looks at them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.reader import Bundle
from bundle.tokens import select_top_k, tokens_to_keep
from training.datasets import DataSet, Ledger
from training.evaluation.bundles import Graphs, check_whole, views_of
from training.evaluation.statistics import Resampling
from video.errors import ClipRefused


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
    ledger = Ledger(dataset.name, len(dataset.entries), lost_share)
    read: list[int] = []
    logits: dict[float, list[NDArray[np.float32]]] = {sparsity: [] for sparsity in sparsities}
    video: dict[float, list[NDArray[np.float32]]] = {sparsity: [] for sparsity in sparsities}
    for number in track(range(len(dataset.entries)), len(dataset.entries)):
        entry = dataset.entries[number]
        check_whole(entry)
        try:
            views = views_of(entry, bundle.manifest)
        except (ClipRefused, OSError, ValueError) as error:
            ledger.add(entry.name, str(error))
            ledger.check()
            continue
        selected = graphs.select(views)
        for sparsity in sparsities:
            positions = select_top_k(selected["scores"], tokens_to_keep(sparsity, tokens))
            said, vector = graphs.extract(views, positions, selected.get("context"))
            logits[sparsity].append(said)
            video[sparsity].append(vector)
        read.append(number)
    if not read:
        raise ValueError(f"{dataset.name}: there is nothing to look at: no clip can be read")
    return Looks(
        name,
        dataset.subset(read),
        {sparsity: np.stack(some) for sparsity, some in logits.items()},
        {sparsity: np.stack(some) for sparsity, some in video.items()},
    )
