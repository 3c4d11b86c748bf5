"""What some options of a conversion may be; it loads nothing, so that --help is quick."""

SPLITS = ("train", "validation", "test")
ON_BAD = ("skip", "fail")
RUNNERS = ("local", "beam")
STRATIFY = ("", "presence", "class")
VALIDATE = ("full", "header")
