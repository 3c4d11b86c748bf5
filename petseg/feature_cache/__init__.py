"""Features of a data set's images, computed once and read instead of the images."""
