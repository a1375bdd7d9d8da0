"""Bars whose numbers can be read on a terminal of 80 columns."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from rich.progress import TextColumn
from rich.table import Column
from small_network import SMALL

from model.checkpoint import save_checkpoint
from model.classifier import LookWhen
from training.moving_things.clip import render_clip
from training.progress import progress_bar, that_fit

ROOT = Path(__file__).parents[2]
FIGURES = ("loss 0.715", "23 clips/s", "label_loss 0.715", "sparsity 0.95", "map_loss 0.0123")


def line(width: int, total: int, done: int, elapsed: float) -> str:
    """A training's line, as a terminal of that width shows it."""
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    clock = [0.0]
    figures = TextColumn("{task.fields[shown]}", table_column=Column(no_wrap=True))
    bar = progress_bar(figures, console=console, get_time=lambda: clock[0])
    task = bar.add_task("training", total=total, shown="")
    for step in (done - 1, done):
        clock[0] += elapsed / 2
        bar.update(task, completed=step, shown=that_fit(FIGURES, "training", total, width))
    with console.capture() as capture:
        console.print(bar.get_renderable())
    return capture.get()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize(
    ("total", "done", "elapsed", "time"),
    [(63, 12, 75, "0:01:15"), (112_500, 99_999, 300_000, "3 days, 11:20:00")],
)
def test_all_numbers_are_on_the_line(
    width: int, total: int, done: int, elapsed: float, time: str
) -> None:
    text = line(width, total, done, elapsed)
    assert text.count("\n") == 1
    assert len(text.rstrip("\n")) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert f"{done}/{total}" in text
    assert time in text
    assert "training" in text
    if width >= 80 and total == 63:
        assert "loss 0.715  23 clips/s" in text
    if width >= 160:
        assert "sparsity 0.95" in text


def test_a_bar_is_left_at_80_columns() -> None:
    assert len(re.findall("[━╸╺]", line(80, 112_500, 99_999, 30_000))) >= 6


def on_a_terminal(command: list[str], cwd: Path) -> str:
    """What a command writes to standard error, a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "TERM": "xterm"}
    written: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(ours, 65536):
                written.append(part)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "lookwhen", "train", *command],
        cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
        text=True, check=False,
    )  # fmt: skip
    os.close(theirs)
    reader.join()
    os.close(ours)
    text = b"".join(written).decode()
    assert done.returncode == 0, text
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint and twelve clips of two classes."""
    root = tmp_path_factory.mktemp("work")
    torch.manual_seed(0)
    save_checkpoint(LookWhen(SMALL), root / "start.safetensors", {})
    for number in range(12):
        folder = root / "clips" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.mp4").write_bytes(render_clip(0, number).video)
    return root


@pytest.mark.long
def test_the_probe_shows_how_far_it_is(work: Path) -> None:
    command = "probe start.safetensors probe folders clips --test 0.4 --sparsity 0.9"
    text = on_a_terminal([*command.split(), "--least-steps", "20", "--workers", "0"], work)
    for shown in ("features of train clips", "features of test clips", "classifiers"):
        assert shown in text
    assert "0/1 " in text
    assert "9/9 " in text  # eight pairs of the sweep, and the best again on all clips
    assert "\N{HORIZONTAL ELLIPSIS}" not in text


@pytest.mark.long
def test_a_training_and_an_evaluation_show_numbers(work: Path) -> None:
    command = "finetune start.safetensors run folders clips --epochs 4 --batch 4"
    text = on_a_terminal([*command.split(), "--workers", "0"], work)
    assert re.search(r"training [━╸╺]+ +12/12 0:0\d:\d\d 0:00:00 loss \d\.\d+  \d", text), text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    command = "evaluate run/checkpoint.safetensors folders clips out/out.json"
    text = on_a_terminal([*command.split(), "--workers", "0", "--sparsity", "0.9"], work)
    assert re.search(r"evaluating [━╸╺]+ +\d/\d \d:", text), text
    assert (work / "out" / "out.json").exists(), "the folder of the report is made"
