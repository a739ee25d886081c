"""Digital phantoms: synthetic head CTs whose blood is known exactly, and how near to it every method comes."""
