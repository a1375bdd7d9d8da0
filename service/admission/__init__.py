"""What may come in: slots, tokens and seconds are reserved before any work is done."""
