"""The loop of every training: resume, processes, parts, divergence, signals, log."""

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from regression import Regression, Rows, go, rows
from torch import Tensor, nn

from training.loop import (
    DivergedError,
    LoopSettings,
    Stopped,
    TrainingError,
    part_of,
    rate,
)
from training.processes import choose_device
from training.running import Running


def log_of(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_loop_learns_and_logs_each_step(tmp_path: Path) -> None:
    objective = go(tmp_path, settings=LoopSettings(steps=60, batch=8))
    log = log_of(tmp_path)
    assert [int(row["step"]) for row in log] == list(range(60))
    assert float(log[-1]["loss"]) < 0.2 * float(log[0]["loss"])
    assert log[3]["error"] == log[3]["loss"]
    assert isinstance(objective, Regression)
    assert objective.stepped_at == list(range(60))


class _KilledError(Exception):
    pass


@pytest.mark.slow
def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path: Path) -> None:
    """Killed a step after the saved state, with steps that depend on chance."""

    def killed(first: int, last: int) -> Iterator[Rows]:
        for step, batch in enumerate(rows(first, last), start=first):
            if step == 5:
                raise _KilledError
            yield batch

    whole = go(tmp_path / "whole", Regression(noise=0.1))
    with pytest.raises(_KilledError):
        go(tmp_path / "cut", Regression(noise=0.1), running=Running(save_every=4), load=killed)
    assert len(log_of(tmp_path / "cut")) == 5
    cut = go(tmp_path / "cut", Regression(noise=0.1), running=Running(save_every=4))
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, cut.state_dict()[name]), name


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    go(tmp_path)
    again = go(tmp_path)
    assert isinstance(again, Regression)
    assert again.seen == []
    assert len(log_of(tmp_path)) == 6


def test_parts_give_the_step_of_the_whole_batch(tmp_path: Path) -> None:
    whole = go(tmp_path / "whole")
    parts = go(tmp_path / "parts", settings=LoopSettings(6, 8, accumulate=4, warm_up=0.2))
    assert isinstance(parts, Regression)
    assert parts.seen == [2] * 24
    for one, other in zip(log_of(tmp_path / "whole"), log_of(tmp_path / "parts"), strict=True):
        assert float(one["loss"]) == pytest.approx(float(other["loss"]), rel=2e-2)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(tensor, parts.state_dict()[name], rtol=0.05, atol=0.02)


def test_what_does_not_divide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a batch of 8 does not divide among 1 processes in 3"):
        go(tmp_path, settings=LoopSettings(6, 8, accumulate=3))
    with pytest.raises(ValueError, match="5 rows do not divide into 2 parts"):
        part_of(Rows(torch.zeros(5, 4), torch.zeros(5, 2), []), 0, 2)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        LoopSettings(steps=0, batch=8)


def test_another_recipe_is_refused_by_the_field_that_differs(tmp_path: Path) -> None:
    go(tmp_path)
    with pytest.raises(TrainingError, match=r"another recipe .settings was .*steps=6"):
        go(tmp_path, settings=LoopSettings(7, 8))


def test_a_state_of_another_shape_is_refused_by_its_recipe(tmp_path: Path) -> None:
    """Before its tensors are looked at, which would not fit."""
    go(tmp_path)
    wider = Regression()
    wider.head = nn.Linear(16, 5)
    with pytest.raises(TrainingError, match="another recipe"):
        go(tmp_path, wider, settings=LoopSettings(6, 8, seed=1))


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_a_run_that_diverges_stops_and_keeps_the_last_good_state(
    tmp_path: Path, broken: str
) -> None:
    class Explodes(Regression):
        def forward(self, batch: Rows, step: int) -> tuple[Tensor, dict[str, float]]:
            loss, shown = super().forward(batch, step)
            if step == 3 and broken == "loss":
                loss = loss * float("nan")
            if step == 3 and broken == "gradient":
                loss = loss + (self.head.bias - self.head.bias.detach()).abs().sqrt().sum()
            return loss, shown

    with pytest.raises(DivergedError, match=f"{broken} is (nan|inf) at step 3; the last good"):
        go(tmp_path, Explodes())
    mended = go(tmp_path)
    assert isinstance(mended, Regression)
    assert len(mended.seen) == 4
    assert all(tensor.isfinite().all() for tensor in mended.state_dict().values())


def test_a_signal_ends_the_run_after_its_step_with_the_state_saved(tmp_path: Path) -> None:
    class Interrupted(Regression):
        def forward(self, batch: Rows, step: int) -> tuple[Tensor, dict[str, float]]:
            if step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().forward(batch, step)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="stopped after step 2"):
        go(tmp_path, Interrupted(), running=Running())
    assert signal.getsignal(signal.SIGTERM) is before
    rest = go(tmp_path)
    assert isinstance(rest, Regression)
    assert len(rest.seen) == 3


def test_the_rate_warms_up_and_falls() -> None:
    settings = LoopSettings(steps=1000, batch=1, warm_up=0.1)
    rates = [rate(settings, step) for step in range(1000)]
    assert rates[0] < 0.02
    assert max(rates) == pytest.approx(1)
    assert rates.index(max(rates)) in range(98, 102)
    assert rates[-1] < 0.002


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="device 'teapot' cannot be used"):
        choose_device("teapot")
    if not torch.cuda.is_available():
        assert choose_device() == torch.device("cpu")
        with pytest.raises(ValueError, match="device 'cuda' cannot be used"):
            choose_device("cuda")


@pytest.mark.long
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    """Under a real torchrun, each with half of the rows, in two parts."""
    go(tmp_path / "one")
    script = tmp_path / "two.py"
    script.write_text(
        f"""
import sys
from pathlib import Path
sys.path = {sys.path!r}
from regression import LoopSettings, Regression, Running, optimizers, rows, run_loop
from training.processes import join_processes

with join_processes("cpu") as processes:
    assert processes.world == 2
    objective = Regression()
    settings = LoopSettings(6, 8, accumulate=2, warm_up=0.2)
    run_loop(
        objective, optimizers(objective),
        lambda first, last: rows(first, last, processes.rank, 2),
        settings, Path({str(tmp_path / "two")!r}), recipe={{}}, processes=processes,
        running=Running(save_every=2),
    )
    assert processes.gather(processes.rank) == [0, 1]
    weights = processes.gather([p.tolist() for p in objective.parameters()])
    assert weights[0] == weights[1]
"""
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            script,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    one, two = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    assert [row["step"] for row in one] == [row["step"] for row in two]
    for ours, theirs in zip(one, two, strict=True):
        assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=2e-2)
    assert (tmp_path / "two" / "state.safetensors").exists()
