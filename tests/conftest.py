"""Settings for the whole suite."""

import os

from hypothesis import HealthCheck, settings

os.environ.setdefault("MPLBACKEND", "Agg")
# No test asserts a time, and a deadline is one: on a busy machine it would fail at random.
settings.register_profile("vramscope", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vramscope")

collect_ignore = ["sample_project"]  # a project of its own: tests/plugin copies it and runs pytest there
