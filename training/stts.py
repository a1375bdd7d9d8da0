"""Train a Video Swin whose selectors learn with it which frames and regions to keep (STTS).

The network learns from labels; its selectors learn through the soft top-K of
:mod:`networks.stts`, whose noise falls to 0 on the way, so that what is trained last is what will
be run. For comparison the same network can be trained on what chance selects.
"""

import dataclasses
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.config import ModelConfig
from model.writing import whole_file
from networks.stts import SAMPLES, SIGMA, Place, SelectingSwin
from networks.video_swin import VideoSwinConfig
from training.datasets import LOST_SHARE, Augmentation, Batch, DataSet, Task, training_batches
from training.datasets.identity import labelled_identity
from training.frame import Run, carry_out
from training.loop import LoopSettings, Objective
from training.optimizers import optimizers_of
from training.processes import Processes, TrainingError
from training.running import Running

_CONFIG_KEY, _FACTS_KEY = "lookwhen_stts", "lookwhen_facts"


@dataclass(frozen=True, slots=True)
class SttsRecipe:
    """One training, whole. Defaults: rendered clips on one core, in minutes.

    Attributes:
        places: of the selectors, in the paper's notation.
        by_chance: select uniformly at random, in training and afterwards.
        frames, size, patch, width, depths, heads, window: of the Video Swin.
        sigma: of the selectors' noise at the first step; it falls linearly to 0.
        samples: of noise, for each clip.
        augmentation: of the clips; crops take most of the picture, for what happens must stay in.
    """

    places: tuple[str, ...] = ("T0_0.5", "S1_0.4")
    by_chance: bool = False
    frames: int = 16
    size: int = 64
    patch: tuple[int, int, int] = (2, 8, 8)
    width: int = 48
    depths: tuple[int, ...] = (2, 2)
    heads: tuple[int, ...] = (3, 6)
    window: tuple[int, int, int] = (8, 4, 4)
    sigma: float = SIGMA
    samples: int = SAMPLES
    augmentation: Augmentation = Augmentation(area=(0.8, 1.0))  # noqa: RUF009, frozen
    seed: int = 0
    steps: int = 200
    batch: int = 32
    accumulate: int = 1
    learning_rate: float = 1e-3  # AdamW's
    matrix_learning_rate: float | None = 3e-3  # Muon's: with AdamW alone it learns next to nothing
    weight_decay: float = 0.05
    warm_up: float = 0.05
    final_rate: float = 1e-3
    clip_gradient: float = 1.0
    label_smoothing: float = 0.05

    @property
    def loop(self) -> LoopSettings:
        return LoopSettings.of(self, self.steps)

    def network(self, labels: tuple[str, ...]) -> SelectingSwin:
        """The network with random weights.

        Raises:
            ValueError: shapes that do not fit, or places that are none of the network's.
        """
        config = VideoSwinConfig(
            "swin_stts", self.frames, self.size, self.patch, self.width, self.depths, self.heads,
            self.window, labels=labels,
        )  # fmt: skip
        network = SelectingSwin(config, [Place.parse(place) for place in self.places])
        network.select_by_chance(self.by_chance)
        return network


class SelectingObjective(Objective):
    """Labels for a network whose selectors are trained with it."""

    def __init__(self, network: SelectingSwin, task: Task, recipe: SttsRecipe) -> None:
        super().__init__()
        self.network, self.task, self.recipe = network, task, recipe
        for selector in network.grid_selectors():
            selector.samples = recipe.samples

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, float]]:
        recipe = self.recipe
        sigma = recipe.sigma * (1 - step / recipe.steps)
        self.network.set_noise(sigma)
        logits = self.network(batch.frames)
        loss = self.task.loss(logits, self.task.dense(batch.target, recipe.label_smoothing))
        with torch.no_grad():
            hits = self.task.measure(self.task.probabilities(logits), batch.target)
        return loss, {self.task.headline: hits[self.task.headline], "sigma": sigma}


def train_stts(
    recipe: SttsRecipe,
    dataset: DataSet,
    out: Path,
    *,
    processes: Processes,
    data: str = "",
    workers: int = 0,
    running: Running = Running(),  # noqa: B008, frozen
    lost_share: float = LOST_SHARE,
) -> Path:
    """Train on labelled clips, or go on with it.

    Args:
        out: folder for state, log and ``stts.safetensors``, which :func:`load_stts` reads.
        data: what the file says it was trained on; by default the data set's name.

    Raises:
        TrainingError: see :func:`training.loop.run_loop`.
        TooManyLost: too many clips cannot be read.
        ValueError: see :meth:`SttsRecipe.network`.
    """
    torch.manual_seed(recipe.seed)
    objective = SelectingObjective(recipe.network(dataset.labels), dataset.task, recipe)
    run = Run(
        name="training.stts",
        recipe=recipe,
        loop=recipe.loop,
        objective=objective,
        optimizers=optimizers_of(recipe, objective),
        batches=lambda share: training_batches(
            dataset,
            views_of(recipe.frames, recipe.size),
            **share,
            augmentation=recipe.augmentation,
            lost_share=lost_share,
        ),
        identity=labelled_identity(dataset),
        data=data or dataset.name,
        save=partial(_save, objective.network, recipe),
        file="stts.safetensors",
    )
    return carry_out(run, out, processes=processes, workers=workers, running=running)


def views_of(frames: int, size: int) -> ModelConfig:
    """What loaders are told of views: their frames and their size, which is a multiple of 32.

    Raises:
        ValueError: no view can be so.
    """
    return ModelConfig("views", frames=frames, size=size)


def _save(network: SelectingSwin, recipe: SttsRecipe, path: Path, facts: dict[str, Any]) -> None:
    metadata = {
        _CONFIG_KEY: json.dumps(
            {"recipe": dataclasses.asdict(recipe), "labels": network.config.labels}
        ),
        _FACTS_KEY: json.dumps(facts),
    }
    tensors = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    with whole_file(path) as part:
        save_file(tensors, part, metadata)


def load_stts(path: Path) -> tuple[SelectingSwin, SttsRecipe]:
    """Read what :func:`train_stts` wrote; the network comes in ``eval`` mode.

    Raises:
        TrainingError: not such a file, or weights that do not fit its recipe.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if _CONFIG_KEY not in metadata:
            raise TrainingError(f"{path}: holds no Video Swin with selectors")
        stored = json.loads(metadata[_CONFIG_KEY])
        augmentation = Augmentation(**_tuples(stored["recipe"].pop("augmentation")))
        recipe = SttsRecipe(**_tuples(stored["recipe"]), augmentation=augmentation)
        network = recipe.network(tuple(stored["labels"]))
        network.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise TrainingError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"{path}: cannot be read as safetensors ({error})") from None
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise TrainingError(f"{path}: is not usable ({error})") from None
    return network.eval(), recipe


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }
