"""The kinds of output of a prediction; it loads nothing, so that --help is quick."""

CLASS_IDS, COLOURS, OVERLAY, PROBABILITIES = "class_ids", "colours", "overlay", "probabilities"
RLE = "rle"  # one file for all pictures, with these columns
RLE_FILE, RLE_COLUMNS = "predictions.csv", ("image", "class", "pixels")
OF_EACH = (CLASS_IDS, COLOURS, OVERLAY, PROBABILITIES)  # a file for each picture
KINDS = (*OF_EACH, RLE)
