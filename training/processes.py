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
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from training.watch import GRACE_SECONDS, Watch, process_name

# How long processes wait for each other within the run: one may have long to decode.
_PATIENCE = timedelta(hours=6)
# And before it, until all of them have started.
_START = timedelta(minutes=10)


class TrainingError(RuntimeError):
    """A run that cannot go on; the text says why, and what is kept."""


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

    @property
    def name(self) -> str:
        """How messages call this process and its node."""
        return process_name(self.rank)

    @property
    def pins(self) -> bool:
        """Whether batches should wait in page-locked memory, to be copied while a step runs."""
        return self.device.type == "cuda"

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

    def share(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Process 0's tensors by name, to every process, on its device; others give none."""
        if self.world == 1:
            return dict(tensors)
        known = [[(name, tensor.shape, tensor.dtype) for name, tensor in tensors.items()]]
        dist.broadcast_object_list(known, src=0)
        shared = {}
        for name, shape, dtype in known[0]:
            if self.first:
                tensor = tensors[name].to(self.device).contiguous()
            else:
                tensor = torch.empty(shape, dtype=dtype, device=self.device)
            dist.broadcast(tensor, src=0)
            shared[name] = tensor
        return shared

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

    A process that fails tells the others, on all nodes, and they end too.

    Raises:
        ValueError: there is no such device.
        TrainingError: another process ended; the text says which and why.
    """
    chosen = choose_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        # TF32 for what autocast leaves in float32: ten bits of mantissa, where bfloat16 has seven,
        # and several times float32's speed.
        torch.set_float32_matmul_precision("high")
    if "WORLD_SIZE" not in os.environ:
        yield Processes(0, 1, chosen)
        return
    store, rank, world = next(rendezvous("env://", timeout=_START))
    watch = Watch(PrefixStore("watch", store.clone()), rank, world)
    try:
        try:
            dist.init_process_group(
                "nccl" if chosen.type == "cuda" else "gloo",
                store=PrefixStore("group", store),
                rank=rank,
                world_size=world,
                timeout=_PATIENCE,
            )
            yield Processes(rank, world, chosen)
            # All leave together, and without what still averages gradients over the group: torch
            # otherwise aborts the process now and then, after its work is done.
            gc.collect()
            dist.barrier()
        except TrainingError:
            raise
        except RuntimeError as error:
            # A collective breaks where another process ends: the other's reason is what counts.
            broken = "onnection" in str(error) or isinstance(error, dist.DistError)
            if (said := watch.heard(GRACE_SECONDS if broken else 0.0)) is not None:
                raise TrainingError(said) from None
            if broken:
                raise TrainingError(
                    f"another process ended without a word; its own output says more ({error})"
                ) from None
            raise
    except BaseException as error:
        watch.tell(str(error) or type(error).__name__)
        raise
    finally:
        watch.close()
        if dist.is_initialized():
            dist.destroy_process_group()


def precision(device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 where the device multiplies in it, otherwise stay in float32."""
    if multiplies_bfloat16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products in bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())
