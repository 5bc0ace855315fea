"""Export the graphs of a checkpoint: `python -m services.tokenizer.engine [--checkpoints FOLDER] [--cache FOLDER]`."""
