"""All that is known about an installed SDK."""
