"""How a data set stores its pictures; it loads nothing, so that --help is quick."""

ENCODED = "encoded"  # JPEGs and PNGs
RAW = "raw"  # decoded: see raw_picture
STORES = (ENCODED, RAW)
