"""timm and torchvision as sources of targets: image classifiers by name, with random weights.

Sources: the documentation of ``timm.create_model`` and of ``torchvision.models.get_model``.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vramscope.errors import TargetError, UsageError
from vramscope.recorders.labels import nested_tensors
from vramscope.workloads.draft import Draft, draw_for, refuse
from vramscope.workloads.inputs import InputSpec
from vramscope.workloads.libraries import import_library, require_library
from vramscope.workloads.losses import SURROGATE_NOTE, cross_entropy, default_loss
from vramscope.workloads.messages import describe_error, suggestion, summarize_error
from vramscope.workloads.models.built_in import IMAGE_SIZE
from vramscope.workloads.workload import Loss, WorkloadOptions

_DEFAULT_BATCH = 8
_TORCHVISION_SIZES = {"inception_v3": 299}  # the one classifier whose input is not 224x224 by its paper


@dataclass(frozen=True)
class TimmSource:
    """A model of timm."""

    model: str

    @property
    def target(self) -> str:
        """As the user wrote it."""
        return f"timm:{self.model}"

    @property
    def name(self) -> str:
        """The model's name in timm."""
        return self.model

    def draft(self, options: WorkloadOptions) -> Draft:
        """Build the model for images of the size it was configured for.

        Raises:
            TargetError: timm cannot be imported, has no such model, or cannot build it.
            UsageError: an option this model has no use for.
        """
        timm = import_library(self.target, "timm")
        _check_name(self.target, self.model, timm.list_models())
        model = _build(self.target, lambda: timm.create_model(self.model, pretrained=False))
        if options.checkpoint:
            _enable_timm_checkpointing(self.target, model)
        channels, height, width = timm.data.resolve_model_data_config(model)["input_size"]
        return _draft_classifier(self.target, model, options, (channels, height, width), model.num_classes)


@dataclass(frozen=True)
class TorchvisionSource:
    """A classifier of torchvision."""

    model: str

    @property
    def target(self) -> str:
        """As the user wrote it."""
        return f"torchvision:{self.model}"

    @property
    def name(self) -> str:
        """The model's name in torchvision."""
        return self.model

    def draft(self, options: WorkloadOptions) -> Draft:
        """Build the classifier for 1000 classes.

        Raises:
            TargetError: torchvision cannot be imported, has no such classifier, or cannot build it.
            UsageError: an option this model has no use for.
        """
        if options.checkpoint:
            raise UsageError(f"--checkpoint does not apply to {self.target}: torchvision's models have no such option")
        models = import_library(self.target, "torchvision").models
        classifiers = models.list_models(module=models)  # detection, segmentation and their like take other inputs
        if self.model not in classifiers and self.model in models.list_models():
            raise TargetError(
                f"{self.target} is no image classifier, so what it takes and what its loss is are not known: "
                "write a factory for it"
            )
        _check_name(self.target, self.model, classifiers)
        model = _build(self.target, lambda: models.get_model(self.model, weights=None))
        size = _TORCHVISION_SIZES.get(self.model, IMAGE_SIZE)
        return _draft_classifier(self.target, model, options, (3, size, size), classes=1000)


def find_timm(model: str) -> TimmSource:
    """The source that ``timm:MODEL`` names.

    Raises:
        TargetError: timm is not installed.
    """
    require_library(f"timm:{model}", "timm", "pip install timm")
    return TimmSource(model)


def find_torchvision(model: str) -> TorchvisionSource:
    """The source that ``torchvision:MODEL`` names.

    Raises:
        TargetError: torchvision is not installed.
    """
    require_library(f"torchvision:{model}", "torchvision", "pip install torchvision")
    return TorchvisionSource(model)


def _check_name(target: str, model: str, known: list[str]) -> None:
    # timm's names may carry the weights' tag after a dot, which the list leaves out
    if model.partition(".")[0] not in known:
        raise TargetError(f"{target}: the library has no such model{suggestion(model, known)}")


def _build(target: str, build: Any) -> Any:
    try:
        return build()
    except Exception as error:
        raise TargetError(f"{target}: building the model failed: {describe_error(error)}") from error


def _enable_timm_checkpointing(target: str, model: Any) -> None:
    try:
        model.set_grad_checkpointing(True)
    except Exception as error:  # an AssertionError or AttributeError where the model cannot
        raise UsageError(f"--checkpoint does not apply to {target}: {summarize_error(error)}") from error


def _draft_classifier(
    target: str, model: nn.Module, options: WorkloadOptions, image: tuple[int, ...], classes: int
) -> Draft:
    refuse(target, options, "seq", "inputs")
    batch = options.batch or _DEFAULT_BATCH
    images = InputSpec("images", "float32", (batch, *image))
    targets = InputSpec("targets", "int64", (batch,), max(classes, 1))
    tensors = draw_for(options, images, targets)
    loss: Loss = _first_cross_entropy if classes else default_loss  # without classes a model gives features
    return Draft(
        model,
        inputs=((tensors["images"],), {}),
        loss=loss,
        targets=tensors["targets"] if classes else None,
        batch=batch,
        training_notes=() if classes else (SURROGATE_NOTE,),
    )


def _first_cross_entropy(outputs: Any, targets: Any) -> Tensor:
    """Cross entropy of the first tensor: GoogLeNet and Inception return auxiliary logits after the main ones."""
    logits = next(tensor for _, tensor in nested_tensors(outputs))
    return cross_entropy(logits, targets)
