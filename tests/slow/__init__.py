"""Tests that take long or need tools that are not on every machine."""
