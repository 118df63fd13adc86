"""The Ledger: a pure function of a Recording that says who owns every byte and when.

numpy only: nothing here runs a model, and torch is never imported.
"""
