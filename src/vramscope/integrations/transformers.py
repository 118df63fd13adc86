"""A callback for Hugging Face's Trainer that records where the memory of training steps goes."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vramscope.integrations.training import TrainingRecorder
from vramscope.ledger.run import RunSummary


class VramscopeCallback(TrainerCallback):
    """Records steps of ``Trainer.train``, as `vramscope run` does for a script.

    The Trainer tells no callback of an exception: the recording is then an unsealed folder, ``NAME.vram.part``, with
    every finished step, and the next ``train`` of the same Trainer takes its place.

    Example:
        ::

            from vramscope.integrations.transformers import VramscopeCallback

            memory = VramscopeCallback("train.vram")
            Trainer(model, arguments, train_dataset=rows, callbacks=[memory]).train()
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

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin.

        Raises:
            UnsupportedError: the process is recorded already.
        """
        self._recorder.start()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End, and print the report."""
        self._recorder.stop()
