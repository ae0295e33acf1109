"""What a device's bytes mean."""

class Decoder:
    """Base of all decoders: a transfer in, frames out."""
