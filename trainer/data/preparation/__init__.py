"""From scans of any data set to prepared scenes."""
