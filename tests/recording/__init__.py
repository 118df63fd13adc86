"""Tests of the recording and its file."""
