"""The built-in models, each written after its paper, one file each, and the table of them.

A model knows nothing of commands; its ``BUILT_IN`` says what it is fed and how its loss is taken.
"""

from vramscope.workloads.models import gpt2, lstm, mlp, resnet18, vit_b16
from vramscope.workloads.models.built_in import BuiltIn

BUILT_INS: dict[str, BuiltIn] = {
    item.name: item for item in (mlp.BUILT_IN, resnet18.BUILT_IN, vit_b16.BUILT_IN, gpt2.BUILT_IN, lstm.BUILT_IN)
}
