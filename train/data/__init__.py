"""Data sets, prepared: cases, the cache, the split by patient, slices to score and examples to train on."""
