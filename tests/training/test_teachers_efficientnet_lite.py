"""EfficientNet-Lite as a teacher, compared with the converter's own code on its own weights."""

from pathlib import Path

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from model.config import ModelConfig
from model.efficientnet import EFFICIENTNET_LITE
from training.pretrain.objective import Heads
from training.sources import OnTheFly
from training.targets import ExtractorTargets
from training.teachers import TeacherError, create_teacher
from training.teachers.efficientnet_lite import _installed

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", EFFICIENTNET_LITE)
def test_it_says_what_the_converters_code_says(name: str) -> None:
    """At the size that this code is tied to, which is no multiple of 16 for Lite2."""
    size = EFFICIENTNET_LITE[name].size
    theirs = EfficientNet.from_name(name.replace("_", "-"))
    theirs.load_state_dict(torch.load(_installed(name), weights_only=True))
    theirs.eval()
    kept: list[torch.Tensor] = []
    # The first block of a stride of 2 after the patches' stage is given the patches.
    last = max(i for i, block in enumerate(theirs._blocks) if block._block_args.stride == [2])
    theirs._blocks[last].register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    clip = torch.randint(0, 256, (1, 2, size, size, 3), dtype=torch.uint8)
    with torch.no_grad():
        pixels = (clip[0].permute(0, 3, 1, 2).float() - 127) / 128
        pooled = theirs.extract_features(pixels).mean(dim=(2, 3))
    teacher = create_teacher(name, "installed")
    features = teacher(clip)
    torch.testing.assert_close(features.frames[0], pooled, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(
        features.patches[0], kept[0].permute(0, 2, 3, 1), atol=1e-3, rtol=1e-3
    )
    assert (features.frames.shape[-1], features.patches.shape[-1]) == (
        teacher.width,
        teacher.patch_width,
    )


def test_any_of_our_views_has_a_patch_for_each_token() -> None:
    teacher = create_teacher("efficientnet_lite0", "installed")
    for size in (64, 128, 160):
        features = teacher(torch.zeros(1, 2, size, size, 3, dtype=torch.uint8))
        assert features.patches.shape == (1, 2, size // 16, size // 16, 112)
        assert features.frames.shape == (1, 2, 1280)


def test_steps_of_some_frames_say_the_same() -> None:
    teacher = create_teacher("efficientnet_lite0", "installed")
    clip = torch.randint(0, 256, (2, 3, 64, 64, 3), dtype=torch.uint8)
    whole = teacher(clip)
    teacher.frames_per_step = 4
    parts = teacher(clip)
    torch.testing.assert_close(parts.frames, whole.frames, atol=1e-5, rtol=1e-4)


def test_a_pre_training_makes_room_for_patches_of_their_own_width() -> None:
    source = OnTheFly(create_teacher("efficientnet_lite0", "installed"), "")
    config = ModelConfig(name="tiny", frames=4, size=64, width=32, heads=2, rope=False)
    heads = Heads(
        config, ExtractorTargets(video=False), video=0, image=source.width,
        patches=source.patch_width,
    )  # fmt: skip
    assert heads.heads["patches"].weight.shape == (112, 32)
    assert heads.heads["frames"].weight.shape == (1280, 32)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="does not hold the weights of efficientnet_lite1"):
        create_teacher("efficientnet_lite1", _installed("efficientnet_lite0"))
    with pytest.raises(TeacherError, match="no such file"):
        create_teacher("efficientnet_lite0", tmp_path / "nothing.pth")
