"""Parts of `ptlab.finetune`."""
