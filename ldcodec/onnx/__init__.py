"""Decoding without torch: a folder with the float networks as ONNX graphs and the integer tensors unchanged."""
