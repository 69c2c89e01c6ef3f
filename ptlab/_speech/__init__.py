"""Sound and log-probs, below transcription: reading, cutting, frames, the model itself."""
