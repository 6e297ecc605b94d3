"""The encoder: picture → file by rate control, analysis, quantisation and refinement."""
