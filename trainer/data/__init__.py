"""Scenes to train on: readers of data sets, and the built-in one."""
