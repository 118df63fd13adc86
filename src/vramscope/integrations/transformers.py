"""A callback for Hugging Face's Trainer that records where the memory of training steps goes."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vramscope.integrations.training import RecordsTraining


class VramscopeCallback(RecordsTraining, TrainerCallback):
    """Records steps of ``Trainer.train``, as `vramscope run` does for a script.

    The Trainer tells no callback of an exception: the recording is then an unsealed folder, ``NAME.vram.part``, with
    every finished step, and the next ``train`` of the same Trainer takes its place.

    Example:
        ::

            from vramscope.integrations.transformers import VramscopeCallback

            memory = VramscopeCallback("train.vram")
            Trainer(model, arguments, train_dataset=rows, callbacks=[memory]).train()
            memory.summary.passes["training"].peak.by_category
    """

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
