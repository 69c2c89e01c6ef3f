"""Parts of `ptlab.streaming`."""
