"""Training programs; nothing else in ldcodec imports them."""
