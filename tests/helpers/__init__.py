"""What several tests share, for them to import."""
