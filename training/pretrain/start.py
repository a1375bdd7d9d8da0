"""What a pre-training starts from, other than chance."""

import dataclasses
import logging
from pathlib import Path

import torch

from model.checkpoint import CheckpointError, load_checkpoint
from model.classifier import LookWhen
from model.config import ModelConfig, get_config
from model.dinov3 import WeightsError, initialise_from_dinov3
from model.stem import StemEmbedding
from training.baselines.dense import DenseViT
from training.pretrain.recipes import PreTrainingRecipe
from training.teachers.efficientnet_lite import INSTALLED, load_efficientnet_lite
from training.teachers.local import load_video_teacher
from training.teachers.weights import read_weights


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """Where the first weights come from; at most one of these, chance without any.

    A network with a stem starts from a checkpoint or from its stem's published weights, because
    a stem is frozen and learns nothing.

    Attributes:
        checkpoint: a LookWhen's.
        dinov3: DINOv3's, in any of its spellings; selector and extractor start as it.
        backbone: a local video teacher's file; selector and extractor start as it.
        stem: the stem's weights, a file or ``installed``; all else starts by chance.
    """

    checkpoint: Path | None = None
    dinov3: Path | None = None
    backbone: Path | None = None
    stem: str | None = None

    def __post_init__(self) -> None:
        given = [f.name for f in dataclasses.fields(self) if getattr(self, f.name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both say where the weights come from")

    def load(self, recipe: PreTrainingRecipe) -> LookWhen | None:
        """The network to start from, or None for random weights.

        Raises:
            CheckpointError: the checkpoint cannot be read, or is of another shape.
            TeacherError: no local video teacher, or no weights of the stem.
            WeightsError: weights of another kind or shape, a stem without weights, or weights of
                a stem for a network that has none.
        """
        wanted = dataclasses.replace(get_config(recipe.config), labels=())
        if wanted.stem is None and self.stem is not None:
            raise WeightsError(f"{recipe.config} has no stem that --stem could be the weights of")
        torch.manual_seed(recipe.seed)  # of what none of them has
        if self.checkpoint is not None:
            model, _ = load_checkpoint(self.checkpoint)
            if dataclasses.replace(model.config, labels=()) != wanted:
                raise CheckpointError(f"{self.checkpoint}: is not of the shape {recipe.config}")
            _part_copies(model, self.checkpoint)
            return model
        if self.dinov3 is not None:
            model = LookWhen(wanted)
            initialise_from_dinov3(model, read_weights(self.dinov3))
            return model
        if self.backbone is not None:
            return from_backbone(wanted, load_video_teacher(self.backbone).network)
        if wanted.stem is not None:
            if self.stem is None:
                raise WeightsError(
                    f"{recipe.config} has a stem, which learns nothing: --stem {INSTALLED} gives "
                    f"it the weights of {wanted.stem}, --start those of a checkpoint"
                )
            model = LookWhen(wanted)
            embedding = model.extractor.embedding
            assert isinstance(embedding, StemEmbedding)
            teacher = load_efficientnet_lite(wanted.stem, self.stem)
            embedding.network.load_state_dict(teacher.network.state_dict())
            return model
        return None


def _part_copies(model: LookWhen, path: Path) -> None:
    """Give the frame tokens of a checkpoint a time where they are copies of one another.

    Starts from DINOv3 and from a backbone made them so before, and only the frames target parted
    them. What follows is a training, so that the answers need not be the checkpoint's.
    """
    selector = model.selector
    if selector.context_has_copies():
        registers = selector.config.registers
        selector.start_context(selector.prefix[:registers], selector.prefix[registers])
        logging.getLogger(__name__).warning(
            "%s: its frame tokens are copies of one another; they start with a place in time", path
        )


def from_backbone(config: ModelConfig, backbone: DenseViT) -> LookWhen:
    """A LookWhen whose networks start as a dense video ViT: the selector as its first blocks.

    The video token starts as the class token, each frame token as the class token in the time of
    its step (:meth:`model.selector.Selector.start_context`), further registers by chance. Position
    tables are the extractor's alone, because the selector's grid is coarser.

    Raises:
        WeightsError: a tensor that does not fit.

    Source: both networks from a teacher's weights is LookWhere's; from a video teacher's is our
    choice, for where there is no published image model.
    """
    model = LookWhen(config)
    weights = backbone.state_dict()
    for part, leave_out in ((model.selector, ("position.", "head.")), (model.extractor, ())):
        own = part.state_dict()
        for name, tensor in own.items():
            if name == "prefix" or name.startswith(leave_out):
                continue
            theirs = weights.get(name)
            if theirs is None or theirs.shape != tensor.shape:
                found = "has no such tensor" if theirs is None else f"has {list(theirs.shape)}"
                raise WeightsError(
                    f"{name} of {config.name} is {list(tensor.shape)}, "
                    f"{backbone.config.name} {found}"
                )
            tensor.copy_(theirs)
    token = weights["class_token"]
    model.selector.start_context(token, token[0])
    return model
