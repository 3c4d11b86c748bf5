"""The kinds of output of a prediction; it loads nothing, so that --help is quick."""

CLASS_IDS, COLOURS, OVERLAY, PROBABILITIES = "class_ids", "colours", "overlay", "probabilities"
KINDS = (CLASS_IDS, COLOURS, OVERLAY, PROBABILITIES)
