"""Stored results of other implementations, and what wrote them."""
