"""Hugging Face transformers as a source of targets: built from a configuration, with random weights.

Nothing but ``config.json`` is ever downloaded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from vramscope.errors import TargetError, UsageError
from vramscope.workloads.draft import Draft
from vramscope.workloads.hugging_face_inputs import Needs
from vramscope.workloads.libraries import import_library, require_library
from vramscope.workloads.messages import describe_error, summarize_error
from vramscope.workloads.workload import WorkloadOptions

_HUB_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class HuggingFaceSource:
    """A model of the transformers library.

    Attributes:
        location: a folder with a ``config.json``, or a name on the hub.
    """

    location: str

    @property
    def target(self) -> str:
        """As the user wrote it."""
        return f"hf:{self.location}"

    @property
    def name(self) -> str:
        """The folder's own name, or the name on the hub."""
        return Path(self.location).resolve().name if Path(self.location).is_dir() else self.location

    def draft(self, options: WorkloadOptions) -> Draft:
        """Build the architecture that the configuration names, and inputs and labels as its ``forward`` takes them.

        Raises:
            TargetError: the configuration cannot be had, or no model can be built from it.
            UsageError: an option this model has no use for.
        """
        transformers = import_library(self.target, "transformers")
        config = _load_config(self, transformers)
        model = _build_model(self, transformers, config)
        if options.checkpoint:
            _enable_checkpointing(self, model)
        return Needs(self.target, model, config, options).draft()


def find_model(location: str) -> HuggingFaceSource:
    """The source that ``hf:LOCATION`` names; the hub is not asked.

    Raises:
        TargetError: transformers is not installed, or a folder is meant and is not there or has no ``config.json``.
    """
    target, path = f"hf:{location}", Path(location)
    require_library(target, "transformers", "pip install transformers")
    if location and path.is_dir() and not (path / "config.json").is_file():
        raise TargetError(f"{target}: the folder has no config.json: save one with config.save_pretrained(folder)")
    looks_like_path = location.startswith((".", "/", "~")) or location.count("/") > 1
    if not location or (looks_like_path and not path.is_dir()):
        raise TargetError(f"{target}: there is no such folder: give one with a config.json, or a name on the hub")
    return HuggingFaceSource(location)


def _load_config(source: HuggingFaceSource, transformers: Any) -> Any:
    """From the folder or the cache; only then from the hub, which is asked once, since its client retries for long."""
    try:
        return transformers.AutoConfig.from_pretrained(source.location, local_files_only=True)
    except Exception as error:
        if Path(source.location).is_dir():
            raise TargetError(f"{source.target}: config.json cannot be used: {summarize_error(error)}") from error
    _ask_hub(source)
    try:
        return transformers.AutoConfig.from_pretrained(source.location)
    except Exception as error:
        raise TargetError(f"{source.target}: its config.json cannot be used: {summarize_error(error)}") from error


def _ask_hub(source: HuggingFaceSource) -> None:
    hub = import_library(source.target, "huggingface_hub")
    try:
        url = hub.hf_hub_url(source.location, "config.json")
        hub.get_hf_file_metadata(url, timeout=_HUB_TIMEOUT_SECONDS)
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError) as error:
        raise TargetError(f"{source.target}: the hub has no such model: {summarize_error(error)}") from error
    except Exception as error:  # the client's own exceptions differ between its versions
        raise TargetError(
            f"{source.target}: the Hugging Face hub cannot be reached ({summarize_error(error)}) and the model is not "
            "in the cache: give a folder with its config.json instead"
        ) from error


def _build_model(source: HuggingFaceSource, transformers: Any, config: Any) -> nn.Module:
    chosen = _model_class(source, transformers, config)
    try:
        model: nn.Module = chosen(config)
    except Exception as error:
        raise TargetError(f"{source.target}: building {chosen.__name__} failed: {describe_error(error)}") from error
    return model


def _model_class(source: HuggingFaceSource, transformers: Any, config: Any) -> Any:
    """The class that the configuration names, else the one that the library has for such a configuration."""
    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if found is None:
            raise TargetError(f"{source.target}: transformers {transformers.__version__} has no architecture {name!r}")
        return found
    for task in _tasks(config):
        mapping = getattr(transformers, f"MODEL_{task}MAPPING")
        if type(config) in mapping:
            found = mapping[type(config)]
            return found[0] if isinstance(found, tuple) else found
    raise TargetError(
        f"{source.target}: config.json names no architectures, and none is known for {type(config).__name__}"
    )


def _tasks(config: Any) -> Iterator[str]:
    """Most models can be several things; an encoder is a masked model first, a decoder a causal one."""
    if config.is_encoder_decoder:
        yield "FOR_SEQ_TO_SEQ_CAUSAL_LM_"
    elif not getattr(config, "is_decoder", False):
        yield "FOR_MASKED_LM_"
    yield from ("FOR_CAUSAL_LM_", "FOR_IMAGE_CLASSIFICATION_", "")


def _enable_checkpointing(source: HuggingFaceSource, model: Any) -> None:
    """Under the name of newer versions where there is one; the older name warns there."""
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise UsageError(f"--checkpoint does not apply to {source.target}: {summarize_error(error)}") from error
