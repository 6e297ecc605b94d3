"""An HTML page about a file: its picture in several renderings, the original to compare with, and a map of bits."""
