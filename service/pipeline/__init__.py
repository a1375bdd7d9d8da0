"""The way of a clip: admit, upload, decode, select, queue, extract."""
