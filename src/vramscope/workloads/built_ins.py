"""Built-in models as a source of targets."""

from dataclasses import dataclass

from vramscope.errors import UsageError
from vramscope.workloads.draft import Draft, draw_for, refuse
from vramscope.workloads.losses import cross_entropy
from vramscope.workloads.models.built_in import BuiltIn
from vramscope.workloads.workload import WorkloadOptions


@dataclass(frozen=True)
class BuiltInSource:
    """One of the built-in models, fed as it describes."""

    model: BuiltIn

    @property
    def name(self) -> str:
        """What the user typed."""
        return self.model.name

    def draft(self, options: WorkloadOptions) -> Draft:
        """Build the model, its inputs and the class numbers of cross entropy.

        Raises:
            UsageError: an option this model has no use for, or a sequence it cannot take.
        """
        self._check(options)
        batch, seq = options.batch or self.model.batch, options.seq or self.model.seq
        model = self.model.build(options.checkpoint)
        inputs, targets = self.model.inputs(batch, seq or 0), self.model.targets(batch, seq or 0)
        tensors = draw_for(options, inputs, targets)
        return Draft(
            model,
            inputs=((tensors[inputs.name],), {}),
            loss=cross_entropy,
            targets=tensors[targets.name],
            batch=batch,
            seq=seq,
        )

    def _check(self, options: WorkloadOptions) -> None:
        refuse(self.name, options, "inputs")
        if self.model.seq is None:
            refuse(self.name, options, "seq")
        longest = self.model.longest
        if options.seq and longest and options.seq > longest:
            raise UsageError(f"--seq {options.seq}: {self.name} takes at most {longest} tokens")
        if options.checkpoint and self.model.no_checkpoint:
            raise UsageError(f"--checkpoint does not apply to {self.name}: {self.model.no_checkpoint}")
