"""The way of a clip: admit, upload, decode, select, choose K, extract, answer."""
