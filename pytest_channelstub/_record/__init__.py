"""What happened, and how it reads."""
