"""Pictures into folders by category, and back: copied, linked or moved; no file is lost or overwritten."""
