"""Memory of tests: limits, measuring one test, baselines. What the pytest plugin's hooks stand on.

``options``, ``plans``, ``running`` and ``results`` speak with pytest, the rest knows nothing of it. torch is loaded
when a test is measured, and not before.
"""
