"""Frozen encoders that people have: what makes features of pictures, and how pictures are prepared for it."""
