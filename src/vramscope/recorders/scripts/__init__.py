"""Recording a script that knows nothing of it: its models, optimizers and steps are found while it runs.

Where steps begin and end is decided here; what happens within one is recorded as anywhere else.
"""
