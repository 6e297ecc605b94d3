"""The float networks, the model that holds them, and what they share, in PyTorch."""
