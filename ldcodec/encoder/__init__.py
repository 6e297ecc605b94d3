"""From a picture to a file: rate control, analysis, quantisation, refinement."""
