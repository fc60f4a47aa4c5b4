"""InfoAE as scikit-learn's users expect it."""
