"""Tests that need a CUDA device; elsewhere they are skipped with the reason."""
