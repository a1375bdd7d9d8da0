"""Any of transformers' video models that give hidden states, as video teacher.

VideoMAE, V-JEPA 2 and ViViT are tested. Weights come under the licence of their publisher: the
model's card says which.
"""

import inspect
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from model.config import IMAGENET_MEAN, IMAGENET_STD
from training.teachers.teacher import (
    Teacher,
    TeacherError,
    TeacherFeatures,
    fit_clip,
    optional_package,
)

_log = logging.getLogger(__name__)

# Tokens not in frame-major order.
_OTHER_ORDER = ("timesformer",)


class HuggingFaceVideoTeacher(Teacher):
    """A transformers model whose last hidden state holds one token per tubelet, frame-major.

    Gives the video token (the class token, or the mean over patches where there is none), patches,
    and attention in the last block, averaged over heads: what the class token looks at, or, where
    there is none, what all patches look at on average.

    Source: our choice; the mean is how VideoMAE and V-JEPA 2 are read out, and a mean over queries
    is its counterpart.

    Attention takes memory for every block's L x L weights of all heads: clips are looked at one
    by one then.
    """

    gives = frozenset({"video", "patches", "attention"})
    licence = "its publisher's, see the model's card"

    def __init__(
        self,
        model: Any,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        """Wrap a ``transformers.PreTrainedModel``.

        Args:
            mean, std: pixel statistics of its training, on a 0-1 scale; ImageNet's fit VideoMAE and
                V-JEPA 2, 0.5 fits ViViT.

        Raises:
            TeacherError: a model that is not a video model, or with another order of tokens.
        """
        super().__init__(mean, std)
        config = model.config
        kind = config.model_type
        if kind in _OTHER_ORDER:
            raise TeacherError(f"{kind} models order their tokens in another way: not supported")
        tubelet = getattr(config, "tubelet_size", None)
        size = getattr(config, "crop_size", None) or getattr(config, "image_size", None)
        if tubelet is None or size is None:
            raise TeacherError(f"{kind} is no video model: its configuration has no tubelets")
        # ViViT's tubelet is (frames, rows, columns).
        if isinstance(tubelet, int):
            patch = config.patch_size
            rows, columns = (patch, patch) if isinstance(patch, int) else patch
            self.tubelet = (tubelet, rows, columns)
        else:
            self.tubelet = tuple(tubelet)
        self.size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        # V-JEPA 2 takes any number of frames, the others have a table for one.
        self.frames: int | None = getattr(config, "num_frames", None)
        self.width = config.hidden_size
        self.input_name: str = model.main_input_name
        # V-JEPA 2's predictor is not needed.
        self.options: dict[str, bool] = {}
        if "skip_predictor" in inspect.signature(model.forward).parameters:
            self.options["skip_predictor"] = True
        self.model = model
        self.requires_grad_(False).eval()

    def look(self, clip: Tensor, *, attention: bool) -> TeacherFeatures:
        depth, rows, columns = self.tubelet
        frames = self.frames or max(depth, clip.shape[1] // depth * depth)
        clip = fit_clip(clip, frames, *self.size)
        grid = (frames // depth, self.size[0] // rows, self.size[1] // columns)
        if not attention:
            return self._features(clip, grid)
        self.model.set_attn_implementation("eager")
        single = [self._features(one[None], grid, attention=True) for one in clip]
        return TeacherFeatures(
            video=_together([each.video for each in single]),
            patches=_together([each.patches for each in single]),
            attention=_together([each.attention for each in single]),
        )

    def _features(
        self, clip: Tensor, grid: tuple[int, int, int], *, attention: bool = False
    ) -> TeacherFeatures:
        out = self.model(
            **{self.input_name: self.normalise(clip)}, output_attentions=attention, **self.options
        )
        tokens: Tensor = out.last_hidden_state.float()
        count = grid[0] * grid[1] * grid[2]
        prefix = tokens.shape[1] - count
        if prefix not in (0, 1):
            raise ValueError(
                f"{self.model.config.model_type} gives {tokens.shape[1]} tokens for a clip of "
                f"{count} tubelets; only one more, a class token, is understood"
            )
        patches = tokens[:, prefix:]
        looks = None
        if attention:
            if not out.attentions:
                raise TeacherError(f"{self.model.config.model_type} does not give its attention")
            weights: Tensor = out.attentions[-1].float().mean(dim=1)
            looks = weights[:, 0, 1:] if prefix else weights.mean(dim=1)
        return TeacherFeatures(
            video=tokens[:, 0] if prefix else patches.mean(dim=1),
            patches=patches.reshape(len(clip), *grid, -1),
            attention=None if looks is None else looks.reshape(-1, *grid),
        )


def _together(parts: list[Tensor | None]) -> Tensor:
    return torch.cat([part for part in parts if part is not None])


def load_huggingface(
    name: str,
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> HuggingFaceVideoTeacher:
    """Load a video model from a folder or from the hub, under its publisher's licence.

    Only safetensors are read, and no code that comes with a model is run.

    Raises:
        TeacherError: transformers is missing, there is no such model, or it is not understood.
    """
    transformers = optional_package("transformers", "a Hugging Face model")
    try:
        model = transformers.AutoModel.from_pretrained(
            name,
            use_safetensors=True,
            trust_remote_code=False,
            # Pixels come as float32, whatever the weights were saved as.
            dtype="float32",
        )
    except (OSError, ValueError) as error:
        raise TeacherError(f"{name}: cannot be loaded ({error})") from None
    teacher = HuggingFaceVideoTeacher(model, mean=mean, std=std)
    _log.info("%s; its licence: %s", name, teacher.licence)
    return teacher
