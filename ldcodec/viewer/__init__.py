"""One HTML page of one file: its picture in several renderings, an original beside it, where its bits went."""
