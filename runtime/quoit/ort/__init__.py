"""ONNX Runtime: providers and sessions."""
