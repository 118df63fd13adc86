"""A callback for Hugging Face's Trainer that records where the memory of training steps goes."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vramscope.integrations.training import RecordsTraining

_TELLS = "_tells_vramscope"


class VramscopeCallback(RecordsTraining, TrainerCallback):
    """Records steps of ``Trainer.train``, as `vramscope run` does for a script.

    A training that an exception ends is kept up to its last finished step. The Trainer tells no callback of an
    exception, so from the first of these callbacks on ``Trainer.train`` does. A subclass with a ``train`` of its own
    that never calls the original tells nothing: there the recording ends when the next one begins.

    Example:
        ::

            from vramscope.integrations.transformers import VramscopeCallback

            memory = VramscopeCallback("train.vram")
            Trainer(model, arguments, train_dataset=rows, callbacks=[memory]).train()
            memory.summary.passes["training"].peak.by_category
    """

    def _listen(self) -> None:
        if not getattr(Trainer.train, _TELLS, False):
            setattr(Trainer, "train", _telling(Trainer.train))  # noqa: B010 - mypy takes no method assigned to a class

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin.

        Raises:
            UnsupportedError: the process is recorded already.
        """
        self._recorder.start(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End, and print the report."""
        self._recorder.stop()


def _telling(train: Callable[..., Any]) -> Callable[..., Any]:
    """``Trainer.train``, which tells our callbacks of the exception that ends it before that goes on."""

    @wraps(train)
    def telling(trainer: Trainer, *args: Any, **kwargs: Any) -> Any:
        try:
            return train(trainer, *args, **kwargs)
        except BaseException as error:
            for callback in trainer.callback_handler.callbacks:
                if isinstance(callback, VramscopeCallback):
                    callback._recorder.fail(error)
            raise

    setattr(telling, _TELLS, True)
    return telling
