"""Stage `tokenizers`: both networks that turn speech into codes, their codebooks, and the folder the rooms load."""
