"""``python -m vramscope``."""

from vramscope.cli.main import main

main()
