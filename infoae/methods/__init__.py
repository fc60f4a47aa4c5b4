"""The methods that infoae trains: each is its networks, its losses and its stages. Nothing else knows more of one."""
