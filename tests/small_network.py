"""A LookWhen so small that tests train it: 16 frames of 64 pixels, one block each."""

from model.config import ModelConfig

SMALL = ModelConfig(
    name="small",
    size=64,
    width=32,
    heads=2,
    selector_depth=1,
    extractor_depth=1,
    rope=False,
    layer_scale=None,
)
