"""Parts of `ptlab.batch` and `ptlab.ray_batch`."""
