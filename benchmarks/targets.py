"""``python -m benchmarks.targets``: the selection target's speed against the plain way.

top1-distance over the patches of a clip, as the training computes it (a few rows of the table of
all pairs at a time), against one N x N matrix of cosine similarities. Both are timed in turns, so
that whatever else the machine does meets both; the ratio is taken within each pair.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.command_line import out_option
from benchmarks.record import describe_run, write_result
from training.targets.nearest import CHUNK, topk_distance


def full_matrix(features: Tensor) -> Tensor:
    """The plain way: [B, N, D] -> [B, N] through [B, N, N]."""
    x = F.normalize(features.float(), dim=-1)
    similarity = x @ x.mT
    similarity.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    return 1 - similarity.amax(dim=-1)


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the bytes of the largest tensor that is made."""

    bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                self.bytes = max(self.bytes, tensor.numel() * tensor.element_size())
        return out


def measure(
    *, tokens: int, width: int, batch: int, pairs: int, chunk: int, device: torch.device
) -> dict[str, Any]:
    """Time both ways in turns.

    Returns:
        ``samples``: seconds of each run, in the order they were taken; ``seconds`` per way and
        ``ratio`` (plain over chunked, within pairs) with median, quartiles and extremes;
        ``largest_tensor_mib`` per way; ``largest_difference`` between their results.
    """
    features = torch.randn(batch, tokens, width, generator=torch.Generator().manual_seed(0))
    features = features.to(device)
    ways: dict[str, Callable[[], Tensor]] = {
        "chunked": lambda: topk_distance(features, chunk=chunk),
        "plain": lambda: full_matrix(features),
    }
    made, results = {}, {}
    for name, way in ways.items():  # the first run of each warms up, and is not timed
        with LargestTensor() as largest:  # type: ignore[no-untyped-call]
            results[name] = way()
        made[name] = round(largest.bytes / 2**20, 2)
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for pair in track(range(pairs), "pairs", console=Console(stderr=True)):
        order = list(ways)
        for name in order if pair % 2 else reversed(order):
            samples[name].append(_seconds(ways[name], device))
    ratios = [p / c for p, c in zip(samples["plain"], samples["chunked"], strict=True)]
    return {
        "tokens": tokens,
        "width": width,
        "batch": batch,
        "chunk": chunk,
        "ratio": _summary(ratios),
        "seconds": {name: _summary(taken) for name, taken in samples.items()},
        "largest_tensor_mib": made,
        "largest_difference": (results["plain"] - results["chunked"]).abs().max().item(),
        "samples": samples,
    }


def _seconds(way: Callable[[], Tensor], device: torch.device) -> float:
    start = time.perf_counter()
    way()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _summary(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {
        "median": median,
        "quartile_1": low,
        "quartile_3": high,
        "lowest": min(values),
        "highest": max(values),
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--tokens", default=3136, show_default=True, type=click.IntRange(2))
@click.option("--width", default=768, show_default=True, type=click.IntRange(1))
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1))
@click.option("--pairs", default=30, show_default=True, type=click.IntRange(2))
@click.option(
    "--chunk", default=CHUNK, show_default=True, type=click.IntRange(1), help="Numbers at a time."
)
@click.option("--device", default="cpu", show_default=True, help="Such as cuda.")
@out_option("targets")
def main(
    tokens: int, width: int, batch: int, pairs: int, chunk: int, device: str, out: Path
) -> None:
    """Time top1-distance against one matrix of all pairs, in turns."""
    where = torch.device(device)
    result = describe_run(where)
    result |= measure(
        tokens=tokens, width=width, batch=batch, pairs=pairs, chunk=chunk, device=where
    )
    write_result(out, result)
    ratio, seconds = result["ratio"], result["seconds"]
    click.echo(
        f"chunked {seconds['chunked']['median']:.4f} s, plain {seconds['plain']['median']:.4f} s; "
        f"plain / chunked {ratio['median']:.2f} "
        f"(quartiles {ratio['quartile_1']:.2f} to {ratio['quartile_3']:.2f}, "
        f"{ratio['lowest']:.2f} to {ratio['highest']:.2f} in {pairs} pairs)"
    )


if __name__ == "__main__":
    main()
