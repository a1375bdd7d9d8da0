"""A published network at any sparsity, evaluated as LookWhen is."""

from collections.abc import Iterator, Sequence

import torch

from bundle.tokens import tokens_to_keep
from networks.learned_selector import LearnedSelector
from networks.macs import cost
from networks.network import VideoNetwork
from networks.selecting import SelectingNetwork
from networks.selectors import SELECTORS, ClipSelector, make_selector, selector_input
from training.datasets import Batch
from training.evaluation.methods import Answer, Method, Setting

# `selector` is one that was trained for the network; the others need no training.
NETWORK_SELECTED_BY = ("selector", *SELECTORS)


def chooser_of(network: VideoNetwork, by: str, trained: LearnedSelector | None) -> ClipSelector:
    """What selects a network's tokens.

    Args:
        network: whose tokens.
        by: one of :data:`NETWORK_SELECTED_BY`.
        trained: the network's own selector, where it has one.

    Raises:
        ValueError: an unknown ``by``, or ``selector`` where there is none.
    """
    name = network.config.name
    if by not in NETWORK_SELECTED_BY:
        raise ValueError(f"{name} selects by one of {', '.join(NETWORK_SELECTED_BY)}, not {by!r}")
    if by != "selector":
        return make_selector(by, selector_input(network.config))
    if trained is None:
        raise ValueError(
            f"{name} has no selector of its own, which `lookwhen train tune` gives it; "
            f"select by one of {', '.join(SELECTORS)}"
        )
    return trained.eval()


class NetworkMethod(Method):
    """A published network at several sparsities: as its bundle answers with the same selector."""

    network: SelectingNetwork

    def __init__(
        self,
        network: VideoNetwork,
        sparsities: Sequence[float],
        *,
        by: str,
        trained: LearnedSelector | None = None,
    ) -> None:
        """Evaluate ``network``; ``by`` and ``trained`` as in :func:`chooser_of`.

        Raises:
            ValueError: see :func:`chooser_of`; a sparsity outside [0, 1), one that is given twice,
                or none.
        """
        if not sparsities or len(set(sparsities)) != len(sparsities):
            raise ValueError(f"expected different sparsities, got {list(sparsities)}")
        chooser = chooser_of(network, by, trained)
        self.network = SelectingNetwork(network, chooser).eval()
        self.config = network.config
        series = f"{network.config.name}, selected by {by}"
        self.settings = tuple(Setting(series, f"{s:g}", s) for s in sparsities)
        self.kept = [tokens_to_keep(sparsity, self.config.tokens) for sparsity in sparsities]
        price = cost(self.config)
        # As a bundle counts, whose selector is asked at every sparsity.
        self._macs = [price.at(k) + chooser.macs for k in self.kept]

    def answer(self, batch: Batch) -> Iterator[Answer]:
        rows = len(batch.frames)
        answers = self.network.sweep(batch.frames, batch.clip_small, self.kept)
        for k, macs, predicted in zip(self.kept, self._macs, answers, strict=True):
            yield Answer(
                predicted.logits,
                torch.full((rows,), macs),
                torch.full((rows,), k),
                predicted.positions,
            )
