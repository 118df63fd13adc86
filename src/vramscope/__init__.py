"""vramscope: where the memory of a PyTorch step goes, to the byte.

Only names live here; torch is loaded when one that needs it is first used.
"""

__version__ = "0.1.0"
