"""The study behind the codec: rate, distortion and perception of latent diffusion on small pictures.

`python -m ldcodec.study run` trains and measures a setting, `table` compares results; see docs/study.md.
"""
