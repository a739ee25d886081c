"""What a mask says in numbers: volume, lengths, growth, scores."""
