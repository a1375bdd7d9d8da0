"""What all teachers share: the shape of clips, files of weights, names."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from training.teachers import Teacher, TeacherError, TeacherFeatures, create_teacher
from training.teachers.teacher import fit_clip, optional_package
from training.teachers.weights import read_weights


class MeanColour(Teacher):
    """The smallest teacher: a token is its pixels' mean colour."""

    width = 3
    gives = frozenset({"video"})
    licence = "none"

    def look(self, clip: Tensor, *, attention: bool) -> TeacherFeatures:
        assert not torch.is_grad_enabled()
        return TeacherFeatures(video=self.normalise(clip).mean(dim=(1, 3, 4)))


def test_a_teacher_stays_in_eval_mode_and_refuses_what_is_no_clip() -> None:
    teacher = torch.nn.Sequential(MeanColour()).train()[0]
    assert not teacher.training
    features = teacher(torch.zeros(2, 4, 8, 8, 3, dtype=torch.uint8), attention=True)
    assert features.video.shape == (2, 3)
    assert features.attention is None
    with pytest.raises(ValueError, match="uint8"):
        teacher(torch.zeros(2, 4, 8, 8, 3))
    with pytest.raises(ValueError, match="uint8"):
        teacher(torch.zeros(4, 8, 8, 3, dtype=torch.uint8))


def test_pixels_are_normalised_by_imagenets_statistics() -> None:
    clip = torch.tensor([124, 116, 104], dtype=torch.uint8).expand(1, 2, 4, 4, 3)
    pixels = MeanColour().normalise(clip)
    assert pixels.shape == (1, 2, 3, 4, 4)
    assert pixels.abs().max() < 0.02  # that colour is ImageNet's mean
    white = MeanColour().normalise(torch.full((1, 1, 1, 1, 3), 255, dtype=torch.uint8))
    torch.testing.assert_close(
        white.flatten(), torch.tensor([2.2489, 2.4286, 2.6400]), atol=1e-3, rtol=0
    )


@given(st.integers(1, 40), st.integers(1, 20))
def test_frames_come_from_the_middles_of_equal_segments(there: int, wanted: int) -> None:
    clip = torch.arange(there, dtype=torch.uint8).reshape(1, there, 1, 1, 1).expand(-1, -1, 1, 1, 3)
    taken = fit_clip(clip, wanted, 1, 1)[0, :, 0, 0, 0].tolist()
    assert taken == [int((i + 0.5) * there / wanted) for i in range(wanted)]


def test_pictures_are_resized_without_aliasing() -> None:
    stripes = torch.zeros(1, 1, 8, 8, 3, dtype=torch.uint8)
    stripes[:, :, :, ::2] = 200
    small = fit_clip(stripes, 1, 4, 4)
    assert small.shape == (1, 1, 4, 4, 3)
    assert small.dtype == torch.uint8
    inner = small[0, 0, :, 1:3].float()
    assert (inner - 100).abs().max() < 30  # nearest neighbour would give 0 or 200
    assert torch.equal(fit_clip(stripes, 1, 8, 8), stripes)


def test_weights_are_read_wherever_they_are_wrapped(tmp_path: Path) -> None:
    weights = {"a.weight": torch.arange(6.0).reshape(2, 3)}
    save_file(weights, tmp_path / "model.safetensors")
    torch.save(weights, tmp_path / "flat.pth")
    torch.save({"module": weights, "epoch": 3}, tmp_path / "deepspeed.bin")
    torch.save({"model": {"state_dict": weights}}, tmp_path / "nested.pt")
    for name in ("", "model.safetensors", "flat.pth", "deepspeed.bin", "nested.pt"):
        read = read_weights(tmp_path / name)
        assert read.keys() == weights.keys(), name
        assert torch.equal(read["a.weight"], weights["a.weight"])


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('a pickle was run')",)


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"a": _Payload()}, tmp_path / "pickle.bin")
    (tmp_path / "text.pth").write_text("weights")
    (tmp_path / "text.safetensors").write_text("weights")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    for name in ("pickle.bin", "text.pth", "text.safetensors"):
        with pytest.raises(TeacherError, match=f"{name}: cannot be read"):
            read_weights(tmp_path / name)
    with pytest.raises(TeacherError, match="no state dict"):
        read_weights(tmp_path / "empty.pt")
    with pytest.raises(TeacherError, match="no such file"):
        read_weights(tmp_path / "nowhere.bin")


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TeacherError, match="no teacher 'clip'; known: dinov3_vits16"):
        create_teacher("clip", "weights.pth")
    with pytest.raises(TeacherError, match=r"known: .* through transformers or timm"):
        create_teacher("dinov3_vitb16", "weights.pth", backend="jax")
    with pytest.raises(TeacherError, match="no such file"):
        create_teacher("internvideo2_b14", tmp_path / "weights.bin")
    monkeypatch.setitem(sys.modules, "timm", None)  # as an environment without it imports
    with pytest.raises(TeacherError, match=r"x needs timm, .*lookwhen\[teachers\]"):
        optional_package("timm", "x")
