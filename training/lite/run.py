"""LITE's training from its first step, or from the one that it was stopped at."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from networks.checkpoint import load_network, load_selector, save_network
from networks.lite import LiteSelector, embed_all
from networks.network import VideoNetwork
from training.datasets import LOST_SHARE, Batch, DataSet, DataSetError
from training.datasets.identity import labelled_identity
from training.frame import Run, carry_out
from training.lite.oracle import oracle
from training.lite.recipe import LiteRecipe
from training.loop import Objective
from training.losses import map_loss
from training.optimizers import adamw_of, layer_scales
from training.processes import Processes
from training.provenance import file_digest
from training.running import Running
from training.tune.objective import Tuning
from training.tune.recipe import TuningRecipe
from training.tune.run import batches_of, fitted

LITE_FILE = "lite.safetensors"
# What the selector sees of the network; tuned as well, it would see what it has not learnt from.
_SEEN = ("embedding", "positions")


class LiteLearning(Objective):
    """The selector's scores against the oracle's values."""

    def __init__(self, selector: LiteSelector, network: VideoNetwork, recipe: LiteRecipe) -> None:
        super().__init__()
        self.selector, self.recipe = selector, recipe
        # No part of the run's state.
        self._network = [network.requires_grad_(False).eval()]

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        network = self._network[0].to(batch.frames.device)
        worth = oracle(network, batch.frames, batch.target, self.recipe.layers)
        with torch.no_grad():
            embedded = embed_all(network, batch.frames)
        scores = self.selector(embedded)
        loss = map_loss(scores, worth, self.recipe.temperature, standardise=False)
        # What of all that was worth something is in the best third.
        best = scores.topk(max(1, worth.shape[1] // 3), dim=1).indices
        found = worth.gather(1, best).sum(dim=1) / worth.sum(dim=1).clamp(min=1e-12)
        return loss, {"worth_in_third": found.mean().item()}


class LiteChoice:
    """Scores of a network's own tokens by its selector."""

    def __init__(self, network: VideoNetwork, selector: LiteSelector) -> None:
        self.network, self.selector = network, selector.requires_grad_(False).eval()

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        scores: Tensor = self.selector.to(batch.frames.device)(
            embed_all(self.network, batch.frames)
        )
        return scores


def train_lite(
    start: Path,
    out: Path,
    train: DataSet,
    recipe: LiteRecipe,
    tuning: TuningRecipe | None,
    *,
    processes: Processes,
    data: str = "",
    workers: int = 0,
    running: Running = Running(),  # noqa: B008, frozen
    lost_share: float = LOST_SHARE,
) -> Path:
    """Train the selector, then tune the network to it; returns the path of the result.

    Args:
        start: a network's file, fine-tuned on the labels of ``train``.
        out: folder of the tuning's run and of the result; the selector's run is in ``selector/``.
        train: clips of one label each, which are among the network's.
        recipe: of the selector.
        tuning: of the network; None leaves it as it is.
        data: what provenance says of the clips; by default the data set's name.
        workers: processes that decode.
        lost_share: clips that may be unreadable.

    Raises:
        CheckpointError: ``start`` cannot be read.
        DataSetError: the clips' labels are not the network's.
        TrainingError, ValueError: see :func:`training.loop.run_loop`.
    """
    network, before = load_network(start)
    train, task = fitted(network.config, train)
    if task is None:
        raise DataSetError(
            f"{train.name}: the oracle asks for each clip's true class, and these labels are not "
            f"those of {network.config.name}; fine-tune it on them first"
        )
    said = f"{data or train.name}, {len(train)} clips"
    torch.manual_seed(recipe.seed)
    selector = LiteSelector(network.config)
    batches = partial(batches_of, train, network.config)
    first = Run(
        name="training.lite selector",
        recipe=recipe,
        loop=recipe.loop(len(train)),
        objective=LiteLearning(selector, network, recipe),
        optimizers=adamw_of(recipe, selector),
        batches=partial(batches, recipe.augmentation, lost_share),
        identity={"start": file_digest(start), **labelled_identity(train)},
        data=said,
        save=partial(_save, network, selector),
        continues=before,
    )
    chosen = carry_out(
        first, out / "selector", processes=processes, workers=workers, running=running
    )
    if tuning is None:
        return chosen
    network, before = load_network(chosen)
    learnt = load_selector(chosen)
    assert isinstance(learnt, LiteSelector)  # written above
    for name in _SEEN:
        part = getattr(network, name, None)
        if isinstance(part, torch.nn.Module | torch.nn.Parameter):
            part.requires_grad_(False)
    network.train()
    objective = Tuning(network, task, tuning, choose=LiteChoice(network, learnt))
    second = Run(
        name="training.lite",
        recipe=tuning,
        loop=tuning.loop(len(train)),
        objective=objective,
        optimizers=adamw_of(
            tuning,
            objective.model,
            layer_scales(objective.model, network.config, tuning.layer_decay),
        ),
        batches=partial(batches, tuning.augmentation, lost_share),
        identity={"start": file_digest(chosen), **labelled_identity(train)},
        data=said,
        save=partial(_save, network, learnt),
        file=LITE_FILE,
        continues=before,
    )
    return carry_out(second, out, processes=processes, workers=workers, running=running)


def _save(network: VideoNetwork, selector: LiteSelector, path: Path, facts: dict[str, Any]) -> None:
    save_network(network, path, facts, selector)
