"""The kinds of output of a prediction; it loads nothing, so that --help is quick."""

from collections.abc import Sequence

from petseg.errors import UserError

CLASS_IDS, COLOURS, OVERLAY, PROBABILITIES = "class_ids", "colours", "overlay", "probabilities"
RLE = "rle"  # one file for all pictures, with these columns
RLE_FILE, RLE_COLUMNS = "predictions.csv", ("image", "class", "pixels")
OF_EACH = (CLASS_IDS, COLOURS, OVERLAY, PROBABILITIES)  # a file for each picture
# Of a run that was trained on patches: files for all pictures, and one that is drawn for each.
PROPOSALS, PROPOSAL_PICTURES = "proposals", "proposal_pictures"
PROPOSALS_FILE, PROPOSALS_IMAGES_FILE = "proposals.json", "proposals_images.json"
OF_PROPOSALS = (PROPOSALS, PROPOSAL_PICTURES)
KINDS = (*OF_EACH, RLE, *OF_PROPOSALS)


def check(kinds: Sequence[str]) -> None:
    """Raises UserError if --write names no kind, or an unknown one."""
    if not kinds:
        raise UserError(f"--write is empty; it may be any of {', '.join(KINDS)}")
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"--write: '{kind}' is not one of {', '.join(KINDS)}")
