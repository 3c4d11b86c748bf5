"""The kinds of output of a prediction; it loads nothing, so that --help is quick."""

CLASS_IDS, COLOURS, OVERLAY, PROBABILITIES = "class_ids", "colours", "overlay", "probabilities"
RLE = "rle"  # one file for all pictures, with these columns
RLE_FILE, RLE_COLUMNS = "predictions.csv", ("image", "class", "pixels")
OF_EACH = (CLASS_IDS, COLOURS, OVERLAY, PROBABILITIES)  # a file for each picture
# Of a run that was trained on patches: files for all pictures, and one that is drawn for each.
PROPOSALS, PROPOSAL_PICTURES = "proposals", "proposal_pictures"
PROPOSALS_FILE, PROPOSALS_IMAGES_FILE = "proposals.json", "proposals_images.json"
OF_PROPOSALS = (PROPOSALS, PROPOSAL_PICTURES)
KINDS = (*OF_EACH, RLE, *OF_PROPOSALS)
