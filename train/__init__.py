"""The fine-tune and the published comparison: data sets, recipes, one training loop, scores and documents.

Imports go one way, and a test holds it: data, scores, write, recipes and loss, loop, adapter and baselines, sweep,
soften and export, then the commands. Scores stand below the loop because a run validates by the very function that
scores it afterwards; the curves of a run are drawn by ``write``.
"""
