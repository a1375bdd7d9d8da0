"""The processes of a run: one, or as many as torchrun started."""

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those of the run.

    Attributes:
        rank: 0 to world - 1; process 0 logs and writes files.
        world: how many processes there are.
        device: the accelerator that is this process's own, or the CPU.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Average the module's gradients over the processes."""
        if self.world == 1:
            return module
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=ids)

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Average figures over the processes; every process gets the same."""
        if self.world == 1:
            return dict(values)
        together = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(together)
        return dict(zip(values, (together / self.world).tolist(), strict=True))

    def gather(self, mine: Any) -> list[Any]:
        """One picklable object of each process, in the order of their ranks, to every process."""
        if self.world == 1:
            return [mine]
        all_of_them: list[Any] = [None] * self.world
        dist.all_gather_object(all_of_them, mine)
        return all_of_them

    def wait(self) -> None:
        """Wait until every process has come this far."""
        if self.world > 1:
            dist.barrier()


def choose_device(name: str = "auto") -> torch.device:
    """``auto`` is the accelerator where there is one; in a torchrun group, this process's own.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used: {reason}") from None
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return device


@contextmanager
def join_processes(device: str = "auto") -> Iterator[Processes]:
    """Join torchrun's group, if torchrun started this process; otherwise be alone.

    Raises:
        ValueError: there is no such device.
    """
    chosen = choose_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if "WORLD_SIZE" not in os.environ:
        yield Processes(0, 1, chosen)
        return
    # Hours: one process may have long to decode while the others wait; torchrun ends them all if
    # one of them dies.
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=timedelta(hours=6))
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), chosen)
        # All leave together, and without what still averages gradients over the group: torch
        # otherwise aborts the process now and then, after its work is done.
        gc.collect()
        dist.barrier()
    finally:
        dist.destroy_process_group()


def precision(device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 where the device multiplies in it, otherwise stay in float32."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16) if fast else nullcontext()
