"""What models have given out: it is no input where the program hands it on to the next one."""

from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from vramscope.recorders.labels import label_tensor, nested_tensors
from vramscope.recording.recording import MarkKind


class GivenOut:
    """The memory of what models gave out, as long as it lives; keeps none of it alive."""

    def __init__(self) -> None:
        self._storages: dict[int, StorageWeakRef] = {}  # by address, which may become another tensor's

    def add(self, output: Any) -> None:
        """Take note of every tensor in what a model has returned."""
        for _, tensor in nested_tensors(output):
            for label in label_tensor(MarkKind.INPUT, "", tensor):
                self._storages[label.address] = StorageWeakRef(label.storage)

    def includes(self, tensor: Tensor) -> bool:
        """Whether a tensor lies in memory that a model gave out; where none did, no address is looked up."""
        return bool(self._storages) and any(
            self.holds(label.address) for label in label_tensor(MarkKind.INPUT, "", tensor)
        )

    def holds(self, address: int) -> bool:
        """Whether what a model gave out is at this address."""
        storage = self._storages.get(address)
        return storage is not None and not storage.expired()

    def clear(self) -> None:
        """Begin anew."""
        self._storages.clear()
