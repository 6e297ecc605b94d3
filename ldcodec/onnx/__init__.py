"""Decoding without torch: the float networks as ONNX graphs, the integers as they are, in one folder."""
