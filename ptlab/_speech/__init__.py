"""Parts of `ptlab.audio`, `ptlab.text`, `ptlab.ctc`, `ptlab.models` and `ptlab.transcribe`."""
