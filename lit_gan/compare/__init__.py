"""`lit-gan compare`: runs side by side as tables, charts and one page, from their folders alone, without importing torch.

records   a run's folder: what was trained, its scores, what they cost
labels    which runs share a row, and its name        tables   which scores share a table and a column
words     protocols and numbers in words              text     Markdown and CSV
curves    a table as lines                            charts   lines as PNGs
grids     the sample grids of equal kimg              page     all of it as one HTML file
report    what `lit-gan compare` writes, and where
"""
