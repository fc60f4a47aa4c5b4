"""Labels that no one gave: neighbours, merging of over-categories, the heads' vote, label propagation."""
