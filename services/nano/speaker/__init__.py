"""Stage `speaker`: a small speaker encoder, written as the vocoder's campplus.onnx."""
