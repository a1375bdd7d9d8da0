"""transformers' video models as teachers, random weights and tiny."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from training.teachers import TeacherError, create_teacher
from training.teachers.huggingface import HuggingFaceVideoTeacher

pytestmark = pytest.mark.slow

transformers = pytest.importorskip("transformers")

COMMON = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def videomae() -> Any:
    config = transformers.VideoMAEConfig(
        **COMMON, intermediate_size=64, image_size=32, patch_size=16, num_frames=4
    )
    return transformers.VideoMAEModel(config)


def vjepa2() -> Any:
    config = transformers.VJEPA2Config(
        **COMMON,
        mlp_ratio=2,
        crop_size=32,
        patch_size=16,
        pred_hidden_size=32,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
    )
    return transformers.VJEPA2Model(config)


def vivit() -> Any:
    config = transformers.VivitConfig(
        **COMMON, intermediate_size=64, image_size=32, num_frames=4, tubelet_size=[2, 16, 16]
    )
    return transformers.VivitModel(config)


@pytest.fixture
def clip() -> Tensor:
    return torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8)


@pytest.mark.parametrize("build", [videomae, vjepa2, vivit])
def test_features_are_the_models_hidden_states(build: Any, clip: Tensor) -> None:
    torch.manual_seed(0)
    model = build()
    teacher = HuggingFaceVideoTeacher(model)
    features = teacher(clip)
    assert features.frames is None
    assert features.attention is None
    pixels = teacher.normalise(clip)
    with torch.no_grad():
        tokens = model(pixels).last_hidden_state
    has_class = tokens.shape[1] == 9
    patches = tokens[:, 1:] if has_class else tokens
    assert features.patches.shape == (2, 2, 2, 2, 32)
    torch.testing.assert_close(features.patches.flatten(1, 3), patches, atol=1e-5, rtol=1e-5)
    video = tokens[:, 0] if has_class else tokens.mean(dim=1)
    torch.testing.assert_close(features.video, video, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("build", [videomae, vjepa2])
def test_patches_are_frame_major(build: Any, clip: Tensor) -> None:
    """What changes at one tubelet changes that patch's embedding most."""
    torch.manual_seed(0)
    model = build()
    # With nothing coming out of attention, a token sees its own tubelet alone.
    for name, parameter in model.named_parameters():
        if "attention" in name and "embeddings" not in name:
            torch.nn.init.zeros_(parameter)
    teacher = HuggingFaceVideoTeacher(model)
    other = clip.clone()
    other[:, 2:4, :16, 16:] = 255 - other[:, 2:4, :16, 16:]
    change = (teacher(clip).patches - teacher(other).patches).abs().sum(-1)
    expected = torch.zeros(2, 2, 2, 2, dtype=torch.bool)
    expected[:, 1, 0, 1] = True
    assert torch.equal(change > 1e-4, expected)


@pytest.mark.parametrize("build", [videomae, vjepa2, vivit])
def test_attention_sums_to_one_and_does_not_change_the_features(build: Any, clip: Tensor) -> None:
    torch.manual_seed(0)
    teacher = HuggingFaceVideoTeacher(build())
    plain, with_attention = teacher(clip), teacher(clip, attention=True)
    torch.testing.assert_close(plain.patches, with_attention.patches, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(plain.video, with_attention.video, atol=1e-5, rtol=1e-4)
    looks = with_attention.attention
    assert looks.shape == (2, 2, 2, 2)
    assert (looks > 0).all()
    total = looks.sum((1, 2, 3))
    if build is vivit:
        assert (total < 1).all()  # the class token looks at itself too
    else:
        torch.testing.assert_close(total, torch.ones(2))


def test_clips_of_another_shape_are_fitted() -> None:
    clip = torch.zeros(1, 7, 50, 40, 3, dtype=torch.uint8)
    assert HuggingFaceVideoTeacher(videomae())(clip).patches.shape == (1, 2, 2, 2, 32)
    # V-JEPA 2 has no table of frames: it takes as many as there are.
    assert HuggingFaceVideoTeacher(vjepa2())(clip).patches.shape == (1, 3, 2, 2, 32)


def test_a_folder_is_loaded(tmp_path: Path, clip: Tensor) -> None:
    torch.manual_seed(0)
    model = videomae()
    model.save_pretrained(tmp_path)
    loaded = create_teacher("huggingface", tmp_path)
    expected = HuggingFaceVideoTeacher(model)(clip).video
    torch.testing.assert_close(loaded(clip).video, expected)
    model.half().save_pretrained(tmp_path)
    half = create_teacher("huggingface", tmp_path)
    torch.testing.assert_close(half(clip).video, expected, atol=0.02, rtol=0.02)


def test_what_is_not_understood_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="cannot be loaded"):
        create_teacher("huggingface", tmp_path)
    image = transformers.ViTConfig(**COMMON, intermediate_size=64, image_size=32)
    with pytest.raises(TeacherError, match="no video model"):
        HuggingFaceVideoTeacher(transformers.ViTModel(image))
    other = transformers.TimesformerConfig(**COMMON, intermediate_size=64, image_size=32)
    with pytest.raises(TeacherError, match="another way"):
        HuggingFaceVideoTeacher(transformers.TimesformerModel(other))
