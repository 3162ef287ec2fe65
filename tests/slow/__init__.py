"""Tests that take long or need further tools."""
