"""The runtime that every server of xscene stands on."""
