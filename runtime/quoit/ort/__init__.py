"""Choose providers of ONNX Runtime, and open and run its sessions."""
