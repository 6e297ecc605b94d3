"""Programs that measure ldcodec and print what the documents quote; none of them is a test."""
