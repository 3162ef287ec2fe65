"""The text encoder: a frozen text backbone and the heads that were trained on it."""
