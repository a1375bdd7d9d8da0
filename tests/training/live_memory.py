"""Counts the bytes of tensors that are really there, while real code runs.

Every operation of torch passes here, forward and backward; a storage counts from the operation that
made it until nothing holds it any more.
"""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveMemory(TorchDispatchMode):
    """``now`` and ``most`` bytes of what was made within, without what was ``known`` before."""

    def __init__(self, known: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self._known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self._there: dict[int, int] = {}
        self.now = self.most = 0
        self.calls = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), others: Any = None
    ) -> Any:
        self.calls += 1
        made = operation(*arguments, **(others or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._there or storage.data_ptr() in self._known:
            return
        size = storage.nbytes()
        self._there[key] = size
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._there.pop(key, 0)
