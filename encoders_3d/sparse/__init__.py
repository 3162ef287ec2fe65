"""Sparse convolution with MinkowskiEngine's conventions and parameter names, on several engines."""
