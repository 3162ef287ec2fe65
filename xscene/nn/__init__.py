"""Torch parts shared by encoders, fusion and trainer."""
