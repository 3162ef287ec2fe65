"""The points service: encoders for clouds, meshes and objects."""
