"""Readers of the layouts that scan data sets come in."""
