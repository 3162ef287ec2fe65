"""Data sets, training runs and evaluation."""
