"""Semantic tokens: the S3 tokenizer's ONNX network, run on whole utterances or on segments as they arrive."""
