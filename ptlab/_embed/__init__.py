"""Parts of `ptlab.embeddings`."""
