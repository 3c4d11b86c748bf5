"""What an export can be asked for; it loads nothing, so that --help is quick."""

# The keys of formats.FORMATS.
FORMAT_NAMES = ("saved_model", "keras", "litert", "litert_int8", "onnx")
DEFAULT_MAX_PIXELS = 64_000_000  # up to 640 MB while a PNG of that size is decoded
