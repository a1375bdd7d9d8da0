"""What each kind of recipe takes, from its fields and the shapes of its networks."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bundle.tokens import tokens_to_keep
from model.classifier import LookWhen
from model.config import ModelConfig, get_config
from model.efficientnet import POOLED
from model.macs import cost, stem_cost
from training.baselines.config import get_dense_config
from training.baselines.dense import DenseViT
from training.finetune.recipes import FineTuningRecipe
from training.loop import LoopSettings
from training.losses import GPU_CHUNK
from training.optimizers import is_inner_matrix
from training.prediction.memory import (
    FLOAT,
    Memory,
    Stack,
    embedding_kept,
    mlp_kept,
    optimizer_bytes,
    stack_kept,
    stack_looking,
    stack_working,
    stem_working,
)
from training.prediction.teachers import TeacherShape, stack_macs
from training.pretrain.objective import Heads
from training.pretrain.recipes import PreTrainingRecipe
from training.teachers.crops import GLOBAL_CROPS
from training.teachers.distillation import Distillation, ImageRecipe
from training.teachers.video import VideoRecipe

# A backward pass multiplies twice as much as the forward pass.
TRAINED = 3

RECOMPUTE = "--recompute keeps less for the backward pass"
PARTS = "--accumulate takes a step in parts"


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run takes.

    Attributes:
        memory: of each process's device.
        processes: that share a step.
        rows: that a process takes at once.
        steps: of the run, each on ``batch`` rows.
        macs: multiply-accumulates of a row in training, teachers and backward pass included.
        uncounted: what is not in it, in words.
        title: what is trained, where a command has several runs.
        advice: what to do where it does not fit.
    """

    memory: Memory
    processes: int
    rows: int
    steps: int
    batch: int
    macs: float
    uncounted: tuple[str, ...] = ()
    title: str = ""
    advice: str = f"{RECOMPUTE}, {PARTS}"

    def seconds(self, throughput: float) -> float:
        """How long it takes on devices of ``throughput`` multiply-accumulates a second each."""
        return self.steps * self.batch * self.macs / (self.processes * throughput)


def predict_pretraining(
    recipe: PreTrainingRecipe,
    clips: int,
    *,
    processes: int = 1,
    low: int = 2,
    image: TeacherShape | None = None,
    video: TeacherShape | None = None,
) -> Forecast:
    """A pre-training on a number of clips; a teacher that is None is stored, and looks at nothing.

    The memory is that of the step that keeps most tokens.
    """
    config = dataclasses.replace(get_config(recipe.config), labels=())
    loop = recipe.loop(clips)
    rows = rows_at_once(loop, processes)
    widths = {"video": video.width if video else 0, "image": image.width if image else 0}
    widths = {name: width or config.width for name, width in widths.items()}
    with torch.device("meta"):
        model = LookWhen(config)
        heads = Heads(
            config,
            recipe.targets,
            video=widths["video"],
            image=widths["image"],
            patches=widths["image"],
        )
    D, N, V = config.width, config.tokens, widths["image"]
    kept, working = _student(config, rows, config.lowest_sparsity, low, recipe.recompute)
    kept += rows * N * 4 * FLOAT  # both softmaxes of the map loss
    grid = patches = 0.0
    if recipe.targets.patches:
        grid = rows * N * V * FLOAT
        patches = rows * (image.patches if image else N) * V * FLOAT
        # The spread features, and where each of them came from.
        kept += grid + rows * N * (5 * 20 + 24)
        working = max(working, 3 * grid + 3 * FLOAT * GPU_CHUNK)
    kept += 2 * mlp_kept(rows, D, config.mlp_ratio * D, low) + 2 * rows * config.frames * V * FLOAT
    for teacher in (image, video):
        if teacher is not None:
            # Features are normed for distances, whose table comes on top.
            looking = max(teacher.looking(rows, low), patches + 2 * FLOAT * GPU_CHUNK)
            working = max(working, looking)
    copies = 2 if recipe.layer_norm_targets else 1
    targets = grid * (copies - 1) + patches + 3 * rows * config.frames * V * FLOAT
    weights = fixed_memory([model, heads], recipe.matrix_learning_rate is not None, processes, low)
    memory = dataclasses.replace(
        weights,
        teachers=sum(teacher.bytes for teacher in (image, video) if teacher),
        batch=rows * view_bytes(config),
        targets=targets,
        activations=kept,
        working=working,
    )
    levels = recipe.levels or 33
    sparsities = np.linspace(config.lowest_sparsity, config.highest_sparsity, levels).tolist()
    passes = TRAINED + recipe.recompute
    macs = passes * mean_macs(config, sparsities)
    macs -= (passes - 1) * stem_macs(config, sparsities)  # it is frozen
    macs += sum(teacher.macs for teacher in (image, video) if teacher)
    if "distance" in recipe.selection and image:
        macs += image.patches**2 * image.width
    return Forecast(memory, processes, rows, loop.steps, loop.batch, macs)


def predict_finetuning(
    recipe: FineTuningRecipe,
    config: ModelConfig,
    clips: int,
    *,
    processes: int = 1,
    low: int = 2,
) -> Forecast:
    """A fine-tuning of a network of this configuration, labels included, on a number of clips."""
    if recipe.size is not None:
        config = dataclasses.replace(config, size=recipe.size)
    if recipe.sparsities is not None:
        lowest, highest = recipe.sparsities
        config = dataclasses.replace(config, lowest_sparsity=lowest, highest_sparsity=highest)
    loop = recipe.loop(clips)
    rows = rows_at_once(loop, processes)
    steps = [(config.lowest_sparsity, rows)]
    if recipe.dense_share:
        steps.append((min(recipe.dense_sparsities), max(1, round(recipe.dense_rows * rows))))
    kept, working = largest_step(config, steps, low, recipe.recompute, recipe.train_selector)
    if recipe.map_weight:
        kept += rows * config.tokens * 4 * FLOAT
    if recipe.mixup:
        working = max(working, 2 * rows * view_bytes(config) * FLOAT)
    with torch.device("meta"):
        model = LookWhen(config)
    model.selector.requires_grad_(recipe.train_selector)
    memory = dataclasses.replace(
        fixed_memory([model], recipe.optimizer == "muon", processes, low),
        batch=2 * rows * view_bytes(config),
        activations=kept,
        working=working,
    )
    sparsities = np.linspace(config.lowest_sparsity, config.highest_sparsity, 33).tolist()
    passes = TRAINED + recipe.recompute
    macs = passes * mean_macs(config, sparsities)
    macs -= (passes - bool(not recipe.stored_views)) * stem_macs(config, sparsities)
    if not recipe.train_selector:
        macs -= (passes - 1) * cost(config).selector
    return Forecast(memory, processes, rows, loop.steps, loop.batch, macs)


def predict_video_teacher(recipe: VideoRecipe, *, processes: int = 1, low: int = 2) -> Forecast:
    """A training of a local video teacher."""
    config = get_dense_config(recipe.config)
    rows = rows_at_once(recipe.loop, processes)
    with torch.device("meta"):
        model = DenseViT(config)
    dense = max(1, round(recipe.dense_batch * rows))
    each = [(tokens_to_keep(sparsity, config.tokens), rows) for sparsity in recipe.sparsities]
    kept = working = 0.0
    for tokens, shown in [*each, (config.tokens, dense)]:
        stack = Stack(config.twin, config.depth, shown, config.prefix + tokens, rotated=True)
        mine = stack_kept(stack, low, False)
        mine += embedding_kept(shown, tokens, config.patch_values, low)
        kept, working = max(kept, mine), max(working, stack_working(stack, low, False))
    memory = dataclasses.replace(
        fixed_memory([model], True, processes, low),
        batch=rows * (view_bytes(config.twin) + config.tokens * FLOAT),
        activations=kept,
        working=working,
    )
    sparse = float(np.mean([stack_macs(config.twin, config.depth, 1 + k) for k, _ in each]))
    whole = stack_macs(config.twin, config.depth, 1 + config.tokens) * recipe.dense_batch
    macs = TRAINED * (recipe.dense_from * sparse + (1 - recipe.dense_from) * whole)
    return Forecast(memory, processes, rows, recipe.steps, recipe.batch, macs)


def predict_image_teacher(recipe: ImageRecipe, *, processes: int = 1, low: int = 2) -> Forecast:
    """A training of a local image teacher; a row is a picture with all of its crops."""
    rows = rows_at_once(recipe.loop, processes)
    with torch.device("meta"):
        objective = Distillation(recipe)
    config = objective.student.backbone.config
    layers, crops = config.layers(), recipe.crops
    cells = (crops.size // config.patch) ** 2
    few = (crops.local_size // config.patch) ** 2
    whole = Stack(layers, config.depth, GLOBAL_CROPS * rows, config.prefix + cells)
    small = Stack(layers, config.depth, crops.locals * rows, config.prefix + few)
    kept = working = 0.0
    for stack, patches in ((whole, cells), (small, few)):
        kept += stack_kept(stack, low, False)
        kept += embedding_kept(stack.rows, patches, layers.patch_values, low)
        working = max(working, stack_working(stack, low, False))
    masked = rows * round(crops.masked * cells)
    head = (GLOBAL_CROPS + crops.locals) * rows + masked
    C = recipe.prototypes
    kept += head * (low * (config.width + 4 * recipe.hidden) + 4 * FLOAT * recipe.bottleneck)
    kept += head * C * FLOAT
    told = (GLOBAL_CROPS * rows + masked) * C * FLOAT
    # Gradients of the logits and of the probabilities; and what evens out the targets.
    working = max(working, stack_looking(whole, low), 2 * head * C * FLOAT, 3 * told)
    weights = fixed_memory([objective.student], True, processes, low)
    memory = dataclasses.replace(
        weights,
        teachers=FLOAT * sum(p.numel() for p in objective.teacher.parameters()),
        batch=rows * 3 * (GLOBAL_CROPS * crops.size**2 + crops.locals * crops.local_size**2),
        targets=told,
        activations=kept,
        working=working,
    )
    seen = GLOBAL_CROPS * stack_macs(layers, config.depth, whole.length)
    macs = TRAINED * (seen + crops.locals * stack_macs(layers, config.depth, small.length)) + seen
    return Forecast(memory, processes, rows, recipe.steps, recipe.batch, macs)


def rows_at_once(loop: LoopSettings, processes: int) -> int:
    """Rows that a process takes at once.

    Raises:
        ValueError: the batch does not divide.
    """
    parts = processes * loop.accumulate
    if loop.batch % parts:
        raise ValueError(
            f"a batch of {loop.batch} does not divide among {processes} processes "
            f"in {loop.accumulate} parts each"
        )
    return loop.batch // parts


def _student(
    config: ModelConfig,
    rows: int,
    sparsity: float,
    low: int,
    recompute: bool,
    train_selector: bool = True,
) -> tuple[float, float]:
    """What a step of a LookWhen keeps, and the most that comes and goes."""
    P, n, D = config.context, config.selector_tokens, config.width
    tokens = tokens_to_keep(sparsity, config.tokens)
    extractor = Stack(config, config.extractor_depth, rows, P + tokens, rotated=True)
    kept = stack_kept(extractor, low, recompute)
    values = config.patch_values if config.stem is None else POOLED
    kept += embedding_kept(rows, tokens, values, low)
    if train_selector:
        selector = Stack(config, config.selector_depth, rows, P + n)
        kept += stack_kept(selector, low, recompute)
        kept += embedding_kept(rows, n, config.selector_patch_values, low)
        kept += mlp_kept(rows * n, D, config.mlp_ratio * D, low)
    working = stack_working(extractor, low, recompute)
    if config.stem is not None:
        working = max(working, stem_working(config.stem, config.patch, rows * tokens))
    return kept, working


def largest_step(
    config: ModelConfig,
    steps: Sequence[tuple[float, int]],
    low: int,
    recompute: bool,
    train_selector: bool,
) -> tuple[float, float]:
    """The largest of several kinds of steps, each a sparsity and rows."""
    each = [
        _student(config, rows, sparsity, low, recompute, train_selector) for sparsity, rows in steps
    ]
    return max(kept for kept, _ in each), max(working for _, working in each)


def mean_macs(config: ModelConfig, sparsities: Sequence[float]) -> float:
    """The cost of a view, as the mean over sparsities."""
    price = cost(config)
    return float(np.mean([price.at(tokens_to_keep(s, config.tokens)) for s in sparsities]))


def stem_macs(config: ModelConfig, sparsities: Sequence[float]) -> float:
    """The stem's part of :func:`mean_macs`; 0 without one."""
    if config.stem is None:
        return 0.0
    kept = [tokens_to_keep(s, config.tokens) for s in sparsities]
    return stem_cost(config.stem, config.patch) * float(np.mean(kept))


def view_bytes(config: ModelConfig) -> int:
    """Bytes of a view and of its smaller copy."""
    return 3 * config.frames * config.size**2 * 9 // 8


def fixed_memory(networks: Sequence[nn.Module], muon: bool, processes: int, low: int) -> Memory:
    """The part of the memory that is the same for any batch."""
    named = [named for network in networks for named in network.named_parameters()]
    every = sum(parameter.numel() for _, parameter in named)
    trained = sum(parameter.numel() for _, parameter in named if parameter.requires_grad)
    matrices = sum(p.numel() for _, p in named if p.requires_grad and p.ndim > 1)
    inner = sum(p.numel() for name, p in named if p.requires_grad and is_inner_matrix(name, p))
    return Memory(
        weights=FLOAT * every + (low * matrices if low != FLOAT else 0),
        gradients=FLOAT * trained * (2 if processes > 1 else 1),
        optimizer=optimizer_bytes(trained, inner, muon),
    )
