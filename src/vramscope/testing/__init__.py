"""Memory of tests: limits, measuring one test, baselines. What the pytest plugin stands on; knows nothing of pytest.

torch is loaded when a test is measured, and not before.
"""
