"""What do all venues show together?  Pure: the consolidated book and when it may be believed."""
