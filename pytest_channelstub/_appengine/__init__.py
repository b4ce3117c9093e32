"""All that is known about an installed App Engine SDK, and nowhere else."""
