"""Points in named frames, cameras, boxes, voxels and the choice of points and frames; numpy only."""
