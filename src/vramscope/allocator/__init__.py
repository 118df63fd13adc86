"""The CUDA caching allocator: its rules, a simulator of it, and the snapshots it writes.

numpy and sortedcontainers only: torch is never imported, and nothing here prints.
"""
