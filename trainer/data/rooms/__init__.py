"""Furnished rooms: the built-in data set, made from real furniture models."""
