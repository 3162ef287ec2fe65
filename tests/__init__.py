"""Tests, and the fixtures that they share."""
