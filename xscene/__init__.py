"""xscene: cross-modal retrieval of 3D scenes and objects."""
