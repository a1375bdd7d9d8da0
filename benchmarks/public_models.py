"""``python -m benchmarks.public_models``: public checkpoints at full size, from files to answers.

Files of the published keys, shapes and forms are written with random weights, which change nothing
about time or memory. ``lookwhen import`` makes bundles of them, ``lookwhen serve`` serves one after
the other, and one caller sends a rendered clip at each sparsity in turns. Memory is that of the
serving process and its decode worker; its peak is reset before each request.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from safetensors.torch import save_file

from benchmarks.command_line import out_option
from benchmarks.processes import peak_rss_bytes, reset_peak, rss_bytes
from benchmarks.published_keys import (
    Shapes,
    filled,
    internvideo2,
    videomae,
    videomae_transformers,
)
from benchmarks.record import ROOT, describe_run, write_result
from benchmarks.samples import take_turns
from benchmarks.served import Server
from lookwhen.bench.samples import ratios, spread
from model.writing import whole_file
from networks.labels import class_list
from startup.path import child_environment, python_command
from training.moving_things.clip import render_clip

SPARSITIES = (0.0, 0.3, 0.5, 0.7, 0.9)
_LABELS = "kinetics-400"

# Deviation of the random weights. Larger ones let twelve blocks overflow what the comparison of
# torch and onnxruntime calls equal.
_SCALE = 0.02


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A checkpoint as its authors publish it.

    Attributes:
        name: of the network, as ``lookwhen models`` has it.
        file: name of the file; a pickle where it does not end in ``.safetensors``.
        shapes: key and shape of each tensor.
        settings: what the ``config.json`` beside it says; None where there is none.
    """

    name: str
    file: str
    shapes: Callable[[], Shapes]
    settings: Mapping[str, Any] | None = None


FILES = (
    PublishedFile(
        "VideoMAE-B", "model.safetensors", videomae_transformers,
        {"image_size": 224, "num_frames": 16, "tubelet_size": 2, "num_attention_heads": 12},
    ),
    PublishedFile(
        "UMT-B", "b16_ptk710_ftk710_ftk400_f8_res224.pth", lambda: videomae(tubelet=1)
    ),
    PublishedFile("InternVideo2-B", "pytorch_model.bin", internvideo2),
)  # fmt: skip


def write_file(published: PublishedFile, folder: Path) -> Path:
    """Write the checkpoint and its configuration; returns what ``lookwhen import`` is given."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = filled(published.shapes(), scale=_SCALE)
    path = folder / published.file
    with whole_file(path) as part:
        if path.suffix == ".safetensors":
            save_file(weights, part)
        else:
            torch.save({"module": weights}, part)
    if published.settings is None:
        return path
    (folder / "config.json").write_text(json.dumps(published.settings))
    return folder


def import_file(source: Path, bundle: Path) -> dict[str, Any]:
    """Run ``lookwhen import``; returns its seconds and the most memory that it took.

    Raises:
        click.ClickException: it failed; with what it said.
    """
    command = python_command("-m", "lookwhen", "import", str(source), str(bundle))
    with tempfile.TemporaryFile() as said:
        began = time.monotonic()
        process = subprocess.Popen(
            [*command, "--accept-licence", "--labels", _LABELS],
            cwd=ROOT, env=child_environment(os.environ), stdout=said, stderr=said,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise click.ClickException(f"{source}: {said.read().decode(errors='replace')}")
    return {
        "seconds": time.monotonic() - began,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": 1024 * usage.ru_maxrss,
    }


def serve_file(
    bundle: Path, clip: Path, sparsities: Sequence[float], rounds: int, threads: int
) -> dict[str, Any]:
    """Serve the bundle and ask it in turns.

    Returns:
        start_seconds, rest_bytes (resident, before the first request), and by sparsity the kept
        tokens, the multiply-accumulates, seconds of the stages, and the peak of resident memory.
    """
    began = time.monotonic()
    server = Server(
        bundle, bundle.parent / f"{bundle.name}.log", intra_op_threads=threads,
        request_timeout_seconds=600, sparsity_levels=",".join(f"{s:g}" for s in sparsities),
    )  # fmt: skip
    try:
        server.client.timeout = 900
        server.wait_until_ready(600)
        started = time.monotonic() - began
        processes = [server.process.pid, *server.worker_pids()]
        rest = sum(rss_bytes(pid) for pid in processes)
        answers: dict[str, list[dict[str, Any]]] = {f"{s:g}": [] for s in sparsities}
        peaks: dict[str, list[int]] = {name: [] for name in answers}

        def ask(name: str) -> float:
            for pid in processes:
                reset_peak(pid)
            response = server.classify(clip, sparsity=float(name), top=1)
            if response.status_code != 200:
                raise click.ClickException(f"{bundle.name}: {response.text}")
            answers[name].append(response.json())
            peaks[name].append(sum(peak_rss_bytes(pid) for pid in processes))
            return float(answers[name][-1]["timing"]["total"])

        ways = {name: lambda name=name: ask(name) for name in answers}
        totals = take_turns(ways, rounds, what=bundle.name)
    finally:
        server.stop()
    names = class_list(_LABELS)
    dense = totals[f"{sparsities[0]:g}"]
    rows = {}
    for name, kept in answers.items():
        label = kept[0]["labels"][0]["label"]
        if label not in names:
            raise click.ClickException(f"{bundle.name} answers {label!r}, which is no class")
        # The first answer warms memory up.
        stages = {stage: [a["timing"][stage] for a in kept[1:]] for stage in ("select", "extract")}
        rows[name] = {
            "tokens": kept[0]["tokens"]["kept"],
            "of": kept[0]["tokens"]["total"],
            "macs": kept[0]["macs"],
            "within_range": kept[0]["sparsity"]["within_range"],
            "total_seconds": spread(totals[name]),
            **{f"{stage}_seconds": spread(taken) for stage, taken in stages.items()},
            "dense_over": ratios(dense, totals[name]),
            "peak_bytes": max(peaks[name][1:]),
        }
    return {"start_seconds": started, "rest_bytes": rest, "rows": rows}


def chosen(only: Sequence[str]) -> list[PublishedFile]:
    """Those of :data:`FILES` that are named; all where none is.

    Raises:
        click.UsageError: there is none of that name.
    """
    known = {published.name: published for published in FILES}
    if absent := [name for name in only if name not in known]:
        raise click.UsageError(f"no model {absent[0]!r}; known: {', '.join(known)}")
    return [known[name] for name in only] or list(FILES)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, help="Only this model; repeatable.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1),
              help="Of a run in the service.")  # fmt: skip
@out_option("public_models")
def main(only: tuple[str, ...], rounds: int, threads: int, out: Path) -> None:
    """Import public checkpoints at full size, serve them, and ask at several sparsities.

    Takes about 15 minutes of a core, 4 GB of memory and 2 GB of disk.
    """
    models = {}
    clip = render_clip(seed=1, index=0)
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "clip.mp4").write_bytes(clip.video)
        for published in chosen(only):
            folder = Path(work) / published.name
            source = write_file(published, folder / "file")
            imported = import_file(source, folder / "bundle")
            imported["file_bytes"] = (folder / "file" / published.file).stat().st_size
            served = serve_file(
                folder / "bundle", Path(work) / "clip.mp4", SPARSITIES, rounds, threads
            )
            models[published.name] = {"import": imported} | served
            click.echo(f"{published.name}: imported in {imported['seconds']:.0f} s")
            for sparsity, row in served["rows"].items():
                click.echo(
                    f"  {sparsity:>4} {row['macs'] / 1e9:7.1f} G "
                    f"{row['total_seconds']['median']:6.2f} s {row['peak_bytes'] / 1e6:6.0f} MB"
                )
    result = describe_run(torch.device("cpu"))
    write_result(out, result | {"rounds": rounds, "threads": threads, "models": models})
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main()
