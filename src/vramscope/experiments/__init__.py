"""The experiments: questions about neural networks as profiled workloads whose claims are judged by numbers.

An experiment measures and judges; it records through the ordinary recorder and ledger, and draws and prints nothing.
"""
