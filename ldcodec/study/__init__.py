"""The study the codec grew out of: rate, distortion and perception of latent diffusion on small pictures.

`python -m ldcodec.study` trains one setting, measures it and adds a row to a table; docs/study.md has the equations.
"""
