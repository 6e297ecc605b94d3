"""Pictures as files, as Pillow images and as the values that the codec takes and gives."""
