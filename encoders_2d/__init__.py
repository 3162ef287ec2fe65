"""The image encoder: a frozen vision backbone and the heads that were trained on it."""
