"""The prepared-scene format: scans of any data set, selected, thinned and cut for training; no pickles."""
