"""Pictures: as files, as Pillow images, and as the arrays that the codec takes and returns."""
