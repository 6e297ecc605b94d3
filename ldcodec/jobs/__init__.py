"""Many files, anywhere: paths and URLs, limits, folders, worker processes, messages."""
