"""How well a predictor does: protocols, scores, and the one cache of scores."""
