"""How a run is carried out: when states are written, checkpointing, compiling, pinned memory."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from live_memory import LiveMemory
from regression import ALONE, SETTINGS, Regression, Rows, go, optimizers, rows
from small_network import SMALL

from model.classifier import LookWhen
from model.layers import Block
from training import loop, processes, running
from training.datasets.loading import spawned_loader
from training.loop import LoopSettings
from training.pretrain.__main__ import main
from training.processes import Processes, TrainingError
from training.running import Running, compile_blocks, recompute_blocks
from training.state import read_step
from training.targets.nearest import exact_products


def test_states_are_written_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which a step takes half a minute: every two minutes, and at the end."""
    clock = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    saved: list[int] = []
    real = loop.save_state

    def noting(path: Path, model: Any, optimizers: Any, step: int, facts: Any) -> None:
        saved.append(step)
        real(path, model, optimizers, step, facts)

    monkeypatch.setattr(loop, "save_state", noting)

    def slowly(first: int, last: int) -> Iterator[Rows]:
        for batch in rows(first, last):
            clock[0] += 30
            yield batch

    settings = LoopSettings(steps=11, batch=8)
    go(tmp_path, settings=settings, running=Running(save_minutes=2), load=slowly)
    assert saved == [4, 8, 11]
    assert read_step(tmp_path / "state.safetensors") == 11
    saved.clear()
    go(tmp_path / "more", settings=settings, running=Running(2, save_every=3), load=slowly)
    assert saved == [3, 6, 9, 11]


def test_the_minutes_between_states_are_above_zero() -> None:
    assert Running().save_minutes == 10
    with pytest.raises(ValueError, match="must be above 0, got 0"):
        Running(save_minutes=0)
    result = CliRunner().invoke(main, ["out", "folders", "clips", "--save-minutes", "0"])
    assert "--save-minutes" in result.output
    assert result.exit_code == 2


def _step(model: LookWhen) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The loss and the gradients of a step on noise, and on noise of drop path."""
    torch.manual_seed(1)
    frames = torch.randint(0, 256, (3, 16, 64, 64, 3), dtype=torch.uint8)
    model.zero_grad()
    predicted = model(frames, frames[:, ::2, ::2, ::2].contiguous(), 77)
    loss = predicted.features.patches.square().mean() + predicted.scores.square().mean()
    torch.autograd.backward(loss)
    return loss.detach(), [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True])
def test_what_is_computed_again_gives_the_same_gradients_and_takes_less(half: bool) -> None:
    torch.manual_seed(0)
    model = LookWhen(dataclasses.replace(SMALL, extractor_depth=6), drop_path=0.3)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss, gradients = _step(model)
        recompute_blocks(model, True)
        again, others = _step(model)
    torch.testing.assert_close(again, loss, rtol=1e-5, atol=1e-6)
    assert len(gradients) == len(others) > 20
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
    assert any(isinstance(block, Block) and block.recompute for block in model.modules())

    def most() -> int:
        with LiveMemory() as live:
            _step(model)
        return live.most

    less = most()
    recompute_blocks(model, False)
    assert less < 0.7 * most()


def test_a_run_may_go_on_with_another_memory(tmp_path: Path) -> None:
    """A run that went out of memory goes on with checkpointing, and need not begin anew."""
    whole = go(tmp_path / "whole")
    settings = LoopSettings(steps=6, batch=8, warm_up=0.2, recompute=True)

    def first_part(first: int, last: int) -> Iterator[Rows]:
        yield from list(rows(first, last))[: 4 - first]

    def run(recompute: bool, load: Any) -> Regression:
        objective = Regression()
        loop.run_loop(
            objective, optimizers(objective), load, settings if recompute else SETTINGS,
            tmp_path / "cut", recipe={"recompute": recompute}, processes=ALONE,
            running=Running(save_every=2),
        )  # fmt: skip
        return objective

    run(False, first_part)
    cut = run(True, rows)
    assert len(cut.seen) == 2
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(tensor, cut.state_dict()[name])


@pytest.mark.long
def test_compiled_blocks_compute_the_same() -> None:
    torch.manual_seed(0)
    model = LookWhen(SMALL)
    names = list(model.state_dict())
    loss, gradients = _step(model)
    try:
        compile_blocks(model, torch.device("cpu"))
    except TrainingError:
        pytest.skip("torch cannot compile here")
    recompute_blocks(model, True)
    again, others = _step(model)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(again, loss, rtol=1e-4, atol=1e-6)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_where_torch_cannot_compile_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there is no compiler of C++."""
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", (str(tmp_path / "no-such-compiler"),))
    torch._dynamo.reset()
    with pytest.raises(
        TrainingError, match=r"torch.compile does not work on cpu here \(.*leave --c"
    ):
        go(tmp_path / "out", running=Running(compile=True))


def test_on_a_gpu_batches_are_pinned_and_float32_takes_tf32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = Processes(0, 1, torch.device("cuda", 0))
    assert gpu.pins
    assert not ALONE.pins
    assert spawned_loader([1], [], 0, pin=gpu.pins).pin_memory  # type: ignore[arg-type]
    assert not spawned_loader([1], [], 0, pin=ALONE.pins).pin_memory  # type: ignore[arg-type]
    before = torch.get_float32_matmul_precision()
    # Only what needs a GPU is left out.
    monkeypatch.setattr(processes, "choose_device", lambda name: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    try:
        with processes.join_processes("cuda") as joined:
            assert joined.pins
            assert torch.get_float32_matmul_precision() == "high"
            with exact_products():
                assert torch.get_float32_matmul_precision() == "highest"
            assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_time_since_the_last_state_begins_with_the_run() -> None:
    assert not Running(save_minutes=1).due(1, 59.0)
    assert Running(save_minutes=1).due(1, 60.0)
    assert running.Running().due(100, 0.0) is False


def test_a_device_without_the_memory_is_a_sentence(tmp_path: Path) -> None:
    class Large(Regression):
        def forward(self, batch: Rows, step: int) -> tuple[torch.Tensor, dict[str, float]]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(TrainingError, match=r"cpu has not enough memory for 8 rows at once; a lar"):
        go(tmp_path, Large())
