"""Compare ldcodec with other codecs, through files that are written, read and decoded (docs/bench.md).

pictures ─► sweep ─► rows (results.csv) ─► summary (means, Bjontegaard deltas) ─► tables, plot, report
              └ codec × setting × picture, in `measurement`
"""
