"""The other methods of the comparison, one small file each, all with the Predictor interface."""
