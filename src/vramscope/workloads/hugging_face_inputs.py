"""Inputs and labels of Hugging Face models, made up from a configuration and the signature of ``forward``."""

import inspect
from dataclasses import dataclass
from typing import Any

from vramscope.errors import UsageError
from vramscope.workloads.draft import Draft, draw_for, refuse
from vramscope.workloads.inputs import InputSpec, check_names
from vramscope.workloads.losses import SURROGATE_NOTE, default_loss
from vramscope.workloads.models.built_in import IMAGE_SIZE
from vramscope.workloads.workload import WorkloadOptions

_DEFAULT_BATCH, _DEFAULT_SEQ = 8, 128
# what the names of classes end in, by what their labels are
_TOKEN_HEADS = ("ForCausalLM", "LMHeadModel", "ForMaskedLM", "ForConditionalGeneration", "WithLMHeadModel")
_CLASS_HEADS = ("ForSequenceClassification", "ForImageClassification")
# these count positions from the padding token's number on, so that many fewer tokens fit
_POSITIONS_AFTER_PADDING = (
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "longformer",
)


@dataclass(frozen=True, eq=False)
class Needs:
    """What a model of the library needs to be called with.

    Attributes:
        target: as the user wrote it.
        model: a ``PreTrainedModel``.
        config: its configuration.
        options: what the command asked for.
    """

    target: str
    model: Any
    config: Any
    options: WorkloadOptions

    def draft(self) -> Draft:
        """The model with inputs, and with labels where its head is of a known kind.

        Raises:
            UsageError: an input that cannot be made up, or an option that makes no sense for this model.
        """
        specs, notes = self._input_specs()
        labels = self._label_specs(specs)
        check_names(self.model, [*specs.values(), *labels.values()])
        tensors = draw_for(self.options, *specs.values(), *labels.values())
        main = specs.get(self.model.main_input_name) or next(iter(specs.values()))
        return Draft(
            self.model,
            inputs=((), {name: tensors[name] for name in specs}),
            labels={name: tensors[name] for name in labels},
            loss=default_loss,
            batch=main.shape[0] if main.shape else None,
            seq=main.shape[1] if main.name == "input_ids" and len(main.shape) == 2 else None,
            notes=notes,
            training_notes=() if labels else (SURROGATE_NOTE,),
        )

    def _input_specs(self) -> tuple[dict[str, InputSpec], tuple[str, ...]]:
        """Inputs by name, those that the user gave before those made up."""
        given = {spec.name: spec for spec in self.options.inputs if not _is_label(spec.name)}
        main = self.model.main_input_name
        if main in given:
            refuse(f"{self.target} whose {main} is given", self.options, "batch", "seq")
            return given, ()
        if main == "input_ids":
            made, notes = self._token_specs()
        elif main == "pixel_values":
            refuse(self.target, self.options, "seq")
            made, notes = {main: self._image_spec()}, ()
        else:
            raise UsageError(
                f"{self.target}: vramscope cannot make up {main!r} for {type(self.model).__name__}: "
                f"give it as --input {main}=DTYPE[SHAPE]"
            )
        return {**made, **given}, notes

    def _token_specs(self) -> tuple[dict[str, InputSpec], tuple[str, ...]]:
        seq, notes = self._sequence()
        shape = (self.options.batch or _DEFAULT_BATCH, seq)
        names = ["input_ids"]
        if self.config.is_encoder_decoder and "decoder_input_ids" in self._forward_names():
            names.append("decoder_input_ids")
        return {name: InputSpec(name, "int64", shape, self._vocabulary()) for name in names}, notes

    def _sequence(self) -> tuple[int, tuple[str, ...]]:
        longest = _longest_sequence(self.config)
        if longest is None:
            return self.options.seq or _DEFAULT_SEQ, ()
        if self.options.seq is not None and self.options.seq > longest:
            raise UsageError(f"--seq {self.options.seq}: {self.target} takes at most {longest} tokens")
        if self.options.seq is None and longest < _DEFAULT_SEQ:
            return longest, (f"the sequence is {longest} tokens, the most that {self.target} takes",)
        return self.options.seq or _DEFAULT_SEQ, ()

    def _image_spec(self) -> InputSpec:
        """``[batch, channels, height, width]``."""
        size = getattr(self.config, "image_size", None) or IMAGE_SIZE
        height, width = (size, size) if isinstance(size, int) else size
        channels = getattr(self.config, "num_channels", 3)
        return InputSpec("pixel_values", "float32", (self.options.batch or _DEFAULT_BATCH, channels, height, width))

    def _label_specs(self, inputs: dict[str, InputSpec]) -> dict[str, InputSpec]:
        """What training passes besides the inputs; empty where the model's kind of labels is not known."""
        given = {spec.name: spec for spec in self.options.inputs if _is_label(spec.name)}
        main = inputs.get("decoder_input_ids") or inputs.get(self.model.main_input_name)
        if given or main is None or not main.shape:
            return given
        made = {spec.name: spec for spec in self._made_labels(type(self.model).__name__, main)}
        return made if set(made) <= set(self._forward_names()) else {}

    def _made_labels(self, kind: str, main: InputSpec) -> list[InputSpec]:
        """Labels by the head's kind: a word or a class per token, a class per sample, or where an answer lies."""
        tokens = main.name != "pixel_values" and len(main.shape) == 2
        if kind.endswith(_TOKEN_HEADS) and tokens:
            return [InputSpec("labels", "int64", main.shape, self._vocabulary())]
        if kind.endswith("ForTokenClassification") and tokens:
            return [InputSpec("labels", "int64", main.shape, self.config.num_labels)]
        if kind.endswith(_CLASS_HEADS):
            return [self._class_labels(main.shape[:1])]
        if kind.endswith("ForQuestionAnswering") and tokens:
            names = ("start_positions", "end_positions")
            return [InputSpec(name, "int64", main.shape[:1], main.shape[1]) for name in names]
        return []

    def _class_labels(self, shape: tuple[int, ...]) -> InputSpec:
        """One label means regression, to the library."""
        if self.config.num_labels == 1:
            return InputSpec("labels", "float32", shape)
        return InputSpec("labels", "int64", shape, self.config.num_labels)

    def _vocabulary(self) -> int:
        size = getattr(self.config.get_text_config(), "vocab_size", None)
        if not isinstance(size, int):
            raise UsageError(
                f"{self.target}: its configuration does not say how many tokens there are: "
                f"give {self.model.main_input_name} as --input {self.model.main_input_name}=int64[BATCH,SEQ]<BOUND"
            )
        return size

    def _forward_names(self) -> list[str]:
        return list(inspect.signature(self.model.forward).parameters)


def _is_label(name: str) -> bool:
    return name == "labels" or name.endswith("_labels") or name in ("start_positions", "end_positions")


def _longest_sequence(config: Any) -> int | None:
    """The positions that the model has; None where they are relative, as in T5."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    if config.model_type in _POSITIONS_AFTER_PADDING:
        return positions - int(config.pad_token_id) - 1
    return int(positions)
