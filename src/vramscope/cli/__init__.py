"""The command line: one file per command.

Commands parse, call and print; the work is done in the houses below.
"""
