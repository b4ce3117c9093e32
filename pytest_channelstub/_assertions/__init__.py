"""The assert_ helpers and what they say."""
