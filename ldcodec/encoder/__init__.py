"""The encoder: picture → file by rate control, analysis, quantisation and refinement."""

EFFORTS = 9  # here, so that command-line options need not import NumPy
