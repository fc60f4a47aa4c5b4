"""Piles of pictures as people have them: folders, archives, tables, arrays; as pixels, and as shards to train on."""
