"""The fusion service: parts of a scene to one vector."""
