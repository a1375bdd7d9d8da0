"""``python -m benchmarks.gpu``: does a GPU answer what a CPU answers, and how fast is it?

One command for a machine that has one: parity of fp32 and fp16 with the CPU, clips per second over
batch and sparsity with the share of the chip's measured matrix rate, and a load of mixed sparsities
through the engine's own schedulers.
"""

import asyncio
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from benchmarks.command_line import out_option
from benchmarks.decoding import decode_on, plan_for
from benchmarks.feeds import extractor_feeds, selector_feeds
from benchmarks.record import describe_run, write_result
from bundle.built_in import default_bundle_path
from bundle.reader import Bundle, read_bundle
from bundle.schema import Manifest
from bundle.tokens import select_top_k, tokens_to_keep
from service.engine import Engine, EngineError, EngineOptions, Work
from service.engine.calibration import extractor_noise
from service.engine.options import CUDA
from video.nvdec import DeviceUnusable, require_device

SPARSITIES = (0.0, 0.5, 0.7, 0.9, 0.95)
BATCHES = (1, 4, 16, 64)


def smooth_clips(bundle: Bundle, count: int) -> NDArray[np.uint8]:
    """uint8 [count, T, H, W, 3]: coarse noise, because fine noise leaves every score the same."""
    geometry = bundle.manifest.geometry
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (count, geometry.frames, 8, 8, 3), np.uint8)
    side = -(-geometry.size // 8)
    cell = np.ones((1, 1, side, side, 1), np.uint8)
    return np.ascontiguousarray(np.kron(coarse, cell)[:, :, : geometry.size, : geometry.size])


def parity(
    manifest: Manifest,
    reference: Engine,
    engine: Engine,
    clips: NDArray[np.uint8],
    sparsities: Sequence[float],
) -> list[dict[str, Any]]:
    """Differences of two engines in units of the reference's standard deviation, by sparsity.

    Both extract the reference's selection, so that a tie in the scores is no difference of logits;
    how much of the selection they share is told apart.
    """
    geometry = reference.geometry
    rows = []
    small = selector_feeds(manifest, clips)
    scores, *context = reference.selector.run(small)
    ours = engine.selector.run(small)[0]
    for sparsity in sparsities:
        kept = tokens_to_keep(sparsity, geometry.tokens)
        positions, own = select_top_k(scores, kept), select_top_k(ours, kept)
        lengths = np.full(len(clips), kept, np.int64)
        feeds = extractor_feeds(manifest, clips, positions, lengths, *context)
        expected = reference.extractor.run(feeds)[0]
        logits = engine.extractor.run(feeds)[0]
        shared = [len(np.intersect1d(a, b)) / kept for a, b in zip(positions, own, strict=True)]
        rows.append(
            {
                "sparsity": sparsity,
                "scores": float(np.abs(ours - scores).max() / scores.std()),
                "logits": float(np.abs(logits - expected).max() / expected.std()),
                "same_label": float((logits.argmax(1) == expected.argmax(1)).mean()),
                "same_selection": float(np.mean(shared)),
            }
        )
    return rows


def throughput(
    engine: Engine, bundle: Bundle, batches: Sequence[int], sparsities: Sequence[float], runs: int
) -> list[dict[str, Any]]:
    """Clips and multiply-accumulates per second of the extractor, by batch and sparsity."""
    macs, geometry = bundle.manifest.macs, bundle.manifest.geometry
    rows = []
    for sparsity in sparsities:
        kept = tokens_to_keep(sparsity, geometry.tokens)
        for batch in sorted(batches, reverse=True):
            feeds = extractor_noise(geometry, [kept] * batch)
            engine.extractor.run(feeds)
            samples = []
            for _ in range(runs):
                began = time.perf_counter()
                engine.extractor.run(feeds)
                samples.append(time.perf_counter() - began)
            seconds = statistics.median(samples)
            rows.append(
                {
                    "sparsity": sparsity,
                    "batch": batch,
                    "clips_per_second": batch / seconds,
                    "macs_per_second": batch * (macs.at(kept) - macs.selector) / seconds,
                    "samples_seconds": samples,
                }
            )
    return rows


def matrix_rate(options: EngineOptions, size: int, products: int, runs: int) -> float:
    """Multiply-accumulates per second of a chain of square products in the engine's precision."""
    kind = TensorProto.FLOAT16 if options.arithmetic == "fp16" else TensorProto.FLOAT
    dtype = np.float16 if options.arithmetic == "fp16" else np.float32
    nodes = [
        helper.make_node("MatMul", [f"x{step}", "weight"], [f"x{step + 1}"])
        for step in range(products)
    ]
    nodes.append(helper.make_node("ReduceMax", [f"x{products}"], ["out"], keepdims=0))
    square = np.full((size, size), 1 / size, dtype)
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x0", kind, [size, size])],
        [helper.make_tensor_value_info("out", kind, [])],
        [onnx.numpy_helper.from_array(square, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = ort.InferenceSession(
        model.SerializeToString(), providers=list(options.execution_providers)
    )
    # The input's way to the device is not what is measured.
    one = np.ones((size, size), dtype)
    session.run(None, {"x0": one})
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        session.run(None, {"x0": one})
        seconds.append(time.perf_counter() - began)
    return products * size**3 / statistics.median(seconds)


def decoding(video: bytes, bundle: Bundle, device: str, runs: int) -> dict[str, Any]:
    """Seconds of one clip on a CPU thread and by the GPU's video engine, in turns, and how far
    apart the views are, in levels of 255.

    Raises:
        DeviceUnusable: torchcodec does not decode this clip there.
    """
    require_device(torch.frombuffer(bytearray(video), dtype=torch.uint8), device)
    plan = plan_for(bundle.manifest)
    seconds: dict[str, list[float]] = {"cpu": [], device: []}
    views: dict[str, NDArray[np.uint8]] = {}
    for _ in range(runs):
        for where, samples in seconds.items():
            began = time.perf_counter()
            views[where], facts = decode_on(where, video, plan)
            samples.append(time.perf_counter() - began)
            if where == device and facts.decoder != "nvdec":
                raise DeviceUnusable("it gives up on this clip, which the CPU then decodes")
    difference = np.abs(views["cpu"].astype(int) - views[device].astype(int))
    return {
        "device": device,
        "samples_seconds": seconds,
        "mean_difference": float(difference.mean()),
        "largest_difference": int(difference.max()),
    }


class _Runs:
    """Adds up what the schedulers ran."""

    def __init__(self) -> None:
        self.extracted = Work()

    def batch_ran(self, stage: str, work: Work, predicted: float, measured: float) -> None:
        if stage == "extract":
            self.extracted += work

    def job_waited(self, stage: str, seconds: float) -> None: ...

    def out_of_memory(self, stage: str) -> None: ...


async def load(
    engine: Engine,
    clips: NDArray[np.uint8],
    sparsities: Sequence[float],
    callers: int,
    seconds: float,
) -> float:
    """Clips per second that this number of callers get; each asks again once it is answered."""
    until, answered = time.monotonic() + seconds, 0

    async def call(number: int) -> None:
        nonlocal answered
        turn = number
        while time.monotonic() < until:
            frames = clips[turn % len(clips)][None]
            kept = tokens_to_keep(sparsities[turn % len(sparsities)], engine.geometry.tokens)
            deadline = time.monotonic() + 60
            selected = await engine.select(frames, deadline=deadline)
            positions = select_top_k(selected.scores, kept)
            await engine.extract(frames, positions, selected.context, deadline=deadline)
            answered += 1
            turn += 1

    began = time.monotonic()
    await asyncio.gather(*(call(number) for number in range(callers)))
    return answered / (time.monotonic() - began)


def mixed_load(
    bundle: Bundle, options: EngineOptions, callers: int, seconds: float
) -> list[dict[str, Any]]:
    """Clips per second of one sparsity and of all of them mixed, with the padding that it took."""
    rows: list[dict[str, Any]] = []
    clips = smooth_clips(bundle, 8)
    loads: list[tuple[float, ...]] = [(0.7,), (0.9,), (0.95,), (0.7, 0.9, 0.95)]
    for sparsities in loads:
        runs = _Runs()
        engine = Engine(bundle, options, runs)
        tokens = bundle.manifest.geometry.tokens
        engine.calibrate(
            [tokens_to_keep(s, tokens) for s in sparsities], tokens_to_keep(0.9, tokens)
        )
        rate = asyncio.run(load(engine, clips, sparsities, callers, seconds))
        engine.close()
        work = runs.extracted
        rows.append(
            {
                "sparsities": sparsities,
                "clips_per_second": rate,
                "rows_per_run": work.rows / work.runs,
                "padding_ratio": work.padding / (work.tokens + work.padding),
            }
        )
    return rows


def measure(bundle: Bundle, options: EngineOptions, runs: int, seconds: float) -> dict[str, Any]:
    """Everything, with both precisions of the options' providers.

    Raises:
        EngineError: a session cannot be built, or does not run where it should.
    """
    clips = smooth_clips(bundle, 16)
    reference = Engine(bundle, EngineOptions(precision="fp32"))
    result: dict[str, Any] = {}
    for precision in ("fp32", "fp16"):
        chosen = replace(options, precision=precision)
        engine = Engine(bundle, chosen)
        rate = matrix_rate(chosen, size=8192, products=8, runs=runs)
        table = throughput(engine, bundle, BATCHES, SPARSITIES, runs)
        for row in table:
            row["share_of_matrix_rate"] = row["macs_per_second"] / rate
        result[precision] = {
            "execution_providers": engine.providers,
            "parity": parity(bundle.manifest, reference, engine, clips, SPARSITIES),
            "matrix_macs_per_second": rate,
            "throughput": table,
            "mixed_load": mixed_load(bundle, chosen, callers=64, seconds=seconds),
        }
        engine.close()
    reference.close()
    return result


def gpu_name() -> str:
    """What the driver calls the GPUs, with its version; torch here knows of none."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown: nvidia-smi cannot be run"
    return told.stdout.strip()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "bundle",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=default_bundle_path,
)
@click.option("--runs", type=click.IntRange(3), default=20, show_default=True)
@click.option("--seconds", type=click.FloatRange(1), default=20.0, show_default=True)
@click.option(
    "--clip",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Decode this one on the GPU as well; takes torch and torchcodec with CUDA.",
)
@click.option("--max-batch-tokens", type=click.IntRange(1), default=262_144, show_default=True)
@out_option("gpu")
def main(
    bundle: Path, runs: int, seconds: float, clip: Path | None, max_batch_tokens: int, out: Path
) -> None:
    """Measure BUNDLE (default: the built-in one) on this machine's first GPU."""
    if CUDA not in ort.get_available_providers():
        raise click.ClickException(
            "the installed onnxruntime has no CUDA. Install `.[gpu]` instead of `.[cpu]` on a "
            "machine with an NVIDIA GPU"
        )
    options = EngineOptions(execution_providers=(CUDA,), max_batch_tokens=max_batch_tokens)
    read = read_bundle(bundle)
    try:
        result = measure(read, options, runs, seconds)
        if clip is not None:
            result["decoding"] = decoding(clip.read_bytes(), read, "cuda:0", runs)
    except DeviceUnusable as error:
        raise click.ClickException(f"{clip} cannot be decoded on the GPU: {error}") from None
    except EngineError as error:
        raise click.ClickException(f"no GPU can be used: {error}") from None
    manifest = read.manifest
    write_result(
        out,
        {
            **describe_run(torch.device("cpu")),
            "bundle": {"name": manifest.name, "version": manifest.version},
            "onnxruntime": ort.__version__,
            "gpu": gpu_name(),
            **result,
        },
    )
    for precision in ("fp32", "fp16"):
        best = max(result[precision]["throughput"], key=lambda row: row["share_of_matrix_rate"])
        click.echo(
            f"{precision}: at most {best['share_of_matrix_rate']:.0%} of the matrix rate, at batch "
            f"{best['batch']} and sparsity {best['sparsity']:g}; same label as the CPU: "
            f"{min(row['same_label'] for row in result[precision]['parity']):.0%}"
        )
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main()
