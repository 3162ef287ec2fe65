"""Benchmarks, each against what it is meant to replace."""
