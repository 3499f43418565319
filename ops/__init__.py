"""The ONNX Runtime custom-op library and its Python side."""
