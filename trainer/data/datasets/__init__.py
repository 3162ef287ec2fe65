"""Prepared scenes as PyTorch data sets: named keys, presence masks, augmentation, mixing."""
