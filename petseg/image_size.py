"""The size of a model's input: one number for squares, or height and width."""

ImageSize = int | tuple[int, int]


def sides_of(image_size: ImageSize) -> tuple[int, int]:
    """Height and width, in pixels."""
    return (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
