"""Author the ONNX graph of a model."""
