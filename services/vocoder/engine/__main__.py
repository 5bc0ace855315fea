"""Export the graphs of a checkpoint: `python -m services.vocoder.engine [--checkpoints FOLDER] [--cache FOLDER]`."""
