"""The Recording: facts from one run, columnar, and the file they are kept in.

No interpretation lives here, and no torch: what a fact means is the ledger's business.
"""
