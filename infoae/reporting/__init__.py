"""Who is told how it goes: the terminal, a log, Weights & Biases. No policy here."""
