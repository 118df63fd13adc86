"""A Lightning callback that records where the memory of training steps goes."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from vramscope.integrations.training import TrainingRecorder
from vramscope.ledger.run import RunSummary


class VramscopeCallback(Callback):
    """Records steps of ``Trainer.fit``, as `vramscope run` does for a script.

    Recording begins after the sanity check of validation. A training that an exception ends is kept up to its last
    finished step.

    Example:
        ::

            from vramscope.integrations.lightning import VramscopeCallback

            memory = VramscopeCallback("fit.vram")
            Trainer(callbacks=[memory]).fit(module, loader)
            memory.summary.passes["training"].peak.by_category

    Args:
        output: the recording to write.
        first: the first optimizer step to record, counted from 0.
        last: the step after the last one to record; None records all that follow.
        rearm: whether steps are recorded again, with source lines, where memory keeps growing.
        report: whether to print the report on standard error at the end.
    """

    def __init__(
        self,
        output: Path | str = "training.vram",
        *,
        first: int = 1,
        last: int | None = 4,
        rearm: bool = True,
        report: bool = True,
    ) -> None:
        self._recorder = TrainingRecorder(output, first=first, last=last, rearm=rearm, report=report)

    @property
    def summary(self) -> RunSummary | None:
        """The figures, once the training has ended; None where nothing was recorded."""
        return self._recorder.summary

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin.

        Raises:
            UnsupportedError: the process is recorded already.
        """
        self._recorder.start()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End, and print the report."""
        self._recorder.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End, and say in the recording how; of memory that ran out, print the autopsy."""
        self._recorder.stop(f"the training ended with {type(exception).__name__}", exception)

    def state_dict(self) -> dict[str, Any]:
        """Nothing of it belongs into a checkpoint."""
        return {}
