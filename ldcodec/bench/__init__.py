"""Measure ldcodec beside other codecs, through files that are written, read and decoded (docs/bench.md).

pictures ─► sweep ─► rows (results.csv) ─► summary (means, Bjontegaard deltas) ─► table, plot, report
               └ codec × picture × setting, in `measurement`
"""
