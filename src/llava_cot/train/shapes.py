"""What has to be found out about a checkpoint before its rows can be put together.

Owns one question: whether its processor gives image tensors a place for each row of a batch, or only one for
each image.
"""

from __future__ import annotations

from PIL import Image

from llava_cot.images import load_image
from llava_cot.models.base import Message, Prompt
from llava_cot.models.checkpoint import Checkpoint
from llava_cot.models.encoding import Encoder


def images_by_row(checkpoint: Checkpoint) -> bool:
    """Found by two pictures in one row: is there one of them, or (at least) two?"""
    image = load_image(Image.new("RGB", (32, 32)))
    encoder = Encoder(checkpoint.processor, checkpoint.model.config, double_bos=False)
    encoded = encoder.encode(Prompt((Message("user", "", (image, image)),)))
    return encoder.head_tensors(encoded)["pixel_values"].shape[0] == 1
