"""Running a model: the evaluation step, prediction of images of any size, and of files."""
