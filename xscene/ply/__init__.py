"""PLY files, binary or text: what their headers promise, their rows, and faces as triangles."""
