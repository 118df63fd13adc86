"""Predictions by processes of their own, several at once where there are processors for it."""

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any, TypeVar

from vramscope.workloads.processes import PythonProcess, processors, raise_failure

if TYPE_CHECKING:
    from vramscope.predict.gpus import Gpu
    from vramscope.predict.remedies import Plan
    from vramscope.predict.search import Need

_MOST = 4
"""Each process takes half a gigabyte."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """Processes that predict; a context that ends them.

    One is started at once, and loads torch meanwhile; the others when it has answered, so that it is not slowed down.
    What the workload prints is passed on from that one alone: each process builds the same.

    Args:
        name: of the pass that they will predict.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._most = min(processors(), _MOST)
        self._lock = Lock()
        self._places = BoundedSemaphore(self._most)
        self._all: list[PythonProcess] = []
        self._idle: list[PythonProcess] = []
        self._failure: BaseException | None = None
        self._start()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._all:
            process.end()
        for process in self._all:
            process.close()

    def predict(self, plan: "Plan", gpu: "Gpu") -> "Need":
        """What a plan needs on a GPU; waits until a process is free, and for its answer. For any thread.

        Raises:
            VramscopeError: the workload cannot be built or run on fake tensors.
            ProcessDiedError: the process ended without an answer.
            ChildDefectError: a fault of vramscope in it.
        """
        with self._places:
            process = self._take()
            reply = _ask(process, plan, gpu)
            self._give_back(process)
        raise_failure(reply)
        need: Need = reply["need"]
        return need

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """What a function that predicts gives for each item, in their order; all are worked on at once.

        Raises:
            Exception: the first that the function raised; no process goes on then.
        """
        with ThreadPoolExecutor(max(len(items), 1)) as threads:
            try:
                return list(threads.map(partial(self._watched, function), items))
            except BaseException as error:  # noqa: BLE001 - an interrupt too; raised again, unless another came first
                failure = self._ended_by(error)
                raise failure from failure.__cause__

    def _watched(self, function: Callable[[Item], Result], item: Item) -> Result:
        try:
            return function(item)
        except BaseException as error:  # noqa: BLE001 - as above
            failure = self._ended_by(error)
            raise failure from failure.__cause__

    def _ended_by(self, error: BaseException) -> BaseException:
        """End all processes, and start none any more; what was the first to end them."""
        with self._lock:
            if self._failure is None:
                self._failure = error
            for process in self._all:
                process.end()
            return self._failure

    def _take(self) -> PythonProcess:
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if not self._idle:
                self._start()
            return self._idle.pop()

    def _give_back(self, process: PythonProcess) -> None:
        with self._lock:
            self._idle.append(process)
            while self._failure is None and len(self._all) < self._most:
                self._start()

    def _start(self) -> None:
        process = PythonProcess("vramscope.predict.worker", self._name, echo=not self._all)
        self._all.append(process)
        self._idle.insert(0, process)  # who has loaded everything already is taken first


def _ask(process: PythonProcess, plan: "Plan", gpu: "Gpu") -> dict[str, Any]:
    try:
        pickle.dump((plan, gpu), process.words)
        process.words.flush()
        reply: dict[str, Any] = pickle.load(process.replies)
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        raise process.death(f"the prediction of {plan.target}", remedy="run it where more is free") from error
    return reply
