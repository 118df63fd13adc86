"""Settings for the whole suite."""

import os
import signal

from hypothesis import HealthCheck, settings

os.environ.setdefault("MPLBACKEND", "Agg")
# A shell has what it starts in the background ignore interrupts, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# No test asserts a time, and a deadline is one: on a busy machine it would fail at random.
settings.register_profile("vramscope", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vramscope")

collect_ignore = ["sample_project"]  # a project of its own: tests/plugin copies it and runs pytest there
