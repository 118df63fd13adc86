"""A Lightning callback that records where the memory of training steps goes."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from vramscope.integrations.training import RecordsTraining


class VramscopeCallback(RecordsTraining, Callback):
    """Records steps of ``Trainer.fit``, as `vramscope run` does for a script.

    Recording begins after the sanity check of validation. A training that an exception ends is kept up to its last
    finished step.

    Example:
        ::

            from vramscope.integrations.lightning import VramscopeCallback

            memory = VramscopeCallback("fit.vram")
            Trainer(callbacks=[memory]).fit(module, loader)
            memory.summary.passes["training"].peak.by_category
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin.

        Raises:
            UnsupportedError: the process is recorded already.
        """
        self._recorder.start(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End, and print the report."""
        self._recorder.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End, and say in the recording how; of memory that ran out, print the autopsy."""
        self._recorder.fail(exception)

    def state_dict(self) -> dict[str, Any]:
        """Nothing of it belongs into a checkpoint."""
        return {}
