"""Where an operator of the CPU allocates otherwise than its fake counterpart says."""

from collections.abc import Mapping

from torch._ops import OpOverload

from vramscope.recorders.artefacts import ARTEFACTS
from vramscope.recorders.substitutes import SUBSTITUTES
from vramscope.recorders.virtual_mode import Rule

CPU_RULES: Mapping[OpOverload, Rule] = {**ARTEFACTS, **SUBSTITUTES}
